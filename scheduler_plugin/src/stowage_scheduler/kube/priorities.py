"""Priorities of pods that name only a PriorityClass, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage_scheduler.cluster import PriorityClass
from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.objects import PodSpec

PREEMPT = "PreemptLowerPriority"
NEVER = "Never"

_BUILT_IN = (PriorityClass("system-node-critical", 2_000_001_000), PriorityClass("system-cluster-critical", 2 * 10**9))


class Priorities:
    """The PriorityClasses of a cluster, asked for the priority of a pod (admission plugin Priority)."""

    def __init__(self, classes: Iterable[PriorityClass] = ()) -> None:
        """Index the classes; of several default ones the lowest counts."""
        self._by_name: Mapping[str, PriorityClass] = {c.name: c for c in (*_BUILT_IN, *classes)}
        defaults = (c for c in self._by_name.values() if c.is_default)
        self._default = min(defaults, key=lambda c: (c.value, c.name), default=PriorityClass("", 0))

    def of(self, spec: PodSpec) -> tuple[int, str]:
        """Priority and preemption policy of a pod: its own where given, else those of its class.

        Raises:
            FieldError: if only a class is given and there is no such class; for an absurd priority or policy.
        """
        policy = spec.preemption_policy
        priority = spec.priority
        if priority is None or policy is None:
            found = self._class_of(spec)
            priority = found.value if priority is None else priority
            policy = policy or found.preemption_policy
        if not -(2**31) <= priority < 2**31:
            raise FieldError("spec.priority", priority, "it must fit into 32 bits")
        if policy not in {PREEMPT, NEVER}:
            raise FieldError("spec.preemptionPolicy", policy, f"it must be {PREEMPT} or {NEVER}")
        return priority, policy

    def _class_of(self, spec: PodSpec) -> PriorityClass:
        if not spec.priority_class_name:
            return self._default
        found = self._by_name.get(spec.priority_class_name)
        if found is None:
            if spec.priority is not None:
                return PriorityClass("", spec.priority)
            raise FieldError(
                "spec.priorityClassName", spec.priority_class_name, "there must be a PriorityClass of this name"
            )
        return found
