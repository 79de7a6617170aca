"""A played cluster for replicas of several pods: nodes, a kubelet that starts pods, and people who delete them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.serving_children import NOW, pod, role, service, variant
from stowage.api.model_service import ModelService
from stowage.decide.serving.group_children import group_pod
from stowage.decide.serving.group_facts import MemberFact, groups_of
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import DeploymentFact, PodFact, PodRef, seconds_of
from stowage.decide.serving.service_step import Seen, ServiceStep, next_step

STEP_SECONDS = 15.0
STARTS_SECONDS = 40.0


def wide(name: str = "default", *, size: int = 2, image: str = "vllm:1", **more: Any) -> dict[str, Any]:
    """A variant whose replicas have so many pods."""
    found = variant(name, group={"size": size, **more.pop("group", {})}, **more)
    found["template"]["spec"]["containers"][0]["image"] = image
    return found


def grouped(*variants: dict[str, Any], replicas: int = 1, **spec: Any) -> ModelService:
    """A service with groups and a count by hand, whose replicas drain for 20 seconds at most."""
    scaling = {"scaleDown": {"drainDeadline": "20s"}}
    return service(role(most=8, variants=variants or (wide(),)), replicas=replicas, **{"scaling": scaling, **spec})


def member(ordinal: int = 0, index: int = 0, *, attempt: int = 0, hash_: str = "", **facts: Any) -> MemberFact:
    """One pod that has been ready for long, unless told otherwise."""
    name = f"llama-unified-default-{ordinal}-{attempt}-{index}"
    own = {key: facts.pop(key) for key in ("has_ended", "is_gated") if key in facts}
    return MemberFact(
        pod(ordinal, name=name, node=f"n{ordinal}-{index}", **facts), ordinal, attempt, index, hash_, **own
    )


class GroupWorld:
    """A pod takes a whole node of `nodes`; pods that are deleted are gone one step later.

    `singles` are pods of the only Deployment there is, and stand elsewhere. `emptied` are pods whose nodes are being
    emptied: those take no other.
    """

    def __init__(self, nodes: int = 100) -> None:
        self.nodes = nodes
        self.now = NOW
        self.members: dict[str, MemberFact] = {}
        self.memories: dict[str, RoleMemory] = {}
        self.made = 0
        self.singles: tuple[PodFact, ...] = ()
        self.deployments: tuple[DeploymentFact, ...] = ()
        self.emptied: set[str] = set()

    def look(self, of: ModelService) -> tuple[ModelService, ServiceStep]:
        """One step of the operator, all of it carried out, and what follows in the cluster."""
        for name in self.emptied & self.members.keys():
            self.members[name] = replace(self.members[name], has_to_leave=True)
        groups = groups_of(of, tuple(self.members.values()), self.now)
        pods, known = (*groups.facts, *self.singles), {one.name: one for one in self.deployments}
        step = next_step(Seen(of, pods, known, {}, {}, self.now, memories=self.memories, groups=groups))
        self.memories = dict(step.memories)
        self.members = {name: one for name, one in self.members.items() if not one.pod.is_terminating}
        for ref, patch in pod_patches(step, self.now).items():
            self._patch(ref, patch["metadata"])
        self._shrink(step)
        for ref in step.groups.delete:
            self.change(ref.name, is_terminating=True)
        for one in step.groups.create:
            self._create(group_pod(of, one, gated=False))
        self._run()
        self.now += STEP_SECONDS
        return of.model_copy(update={"status": step.status}), step

    def change(self, name: str, **facts: Any) -> None:
        """Something becomes of a pod."""
        one = self.members[name]
        self.members[name] = replace(one, pod=replace(one.pod, **facts))

    def ends(self, name: str) -> None:
        """A pod has ended."""
        self.members[name] = replace(self.members[name], has_ended=True)

    @property
    def live(self) -> dict[str, MemberFact]:
        """Pods that nobody has deleted."""
        return {name: one for name, one in self.members.items() if not one.pod.is_terminating}

    def _create(self, document: dict[str, Any]) -> None:
        labels, name = document["metadata"]["labels"], document["metadata"]["name"]
        if name in self.members:
            return  # as the API server says: it is there already
        self.made += 1
        fact = pod(
            self.made, name=name, created_at=self.now, node=None, phase="Pending", is_ready=False, ready_at=None,
            scheduled_at=None,
        )  # fmt: skip
        fact = replace(fact, ref=PodRef("team", name, f"uid-{self.made}"))
        numbers = (int(labels[f"stowage.dev/{one}"]) for one in ("group", "attempt", "group-index"))
        self.members[name] = MemberFact(fact, *numbers, labels["stowage.dev/template-hash"])

    def _patch(self, ref: PodRef, metadata: dict[str, Any]) -> None:
        labels, annotations = metadata["labels"], metadata["annotations"]
        changes: dict[str, Any] = {}
        if "stowage.dev/takes-requests" in labels:
            changes["takes_requests"] = labels["stowage.dev/takes-requests"] == "true"
        if "stowage.dev/spare" in labels:
            changes["is_spare"] = labels["stowage.dev/spare"] == "true"
        if "stowage.dev/draining-since" in annotations:
            changes["draining_since"] = seconds_of(annotations["stowage.dev/draining-since"])
        if "stowage.dev/leaving-cost" in annotations:
            cost = annotations["stowage.dev/leaving-cost"]
            changes["deletion_cost"] = None if cost is None else int(cost)
        if any(one.ref == ref for one in self.singles):
            self.singles = tuple(replace(one, **changes) if one.ref == ref else one for one in self.singles)
            return
        assert self.members[ref.name].pod.ref == ref, "a note is made on exactly one pod"
        self.change(ref.name, **changes)

    def _shrink(self, step: ServiceStep) -> None:
        """What becomes of Deployments that are left over, and of their pods."""
        asked = {child.name: count for child, count in step.lower.items()}
        asked |= dict.fromkeys((one.name for one in step.delete if one.kind == "Deployment"), 0)
        kept = []
        for one in self.deployments:
            count = asked.get(one.name, one.replicas)
            order = sorted(self.singles, key=lambda single: -(single.deletion_cost or 0))
            self.singles = tuple(order[:count])
            kept += [replace(one, replicas=count)] if count else []
        self.deployments = tuple(kept)

    def _run(self) -> None:
        room = self.nodes - sum(one.pod.node is not None for one in self.members.values())
        room -= len(self.emptied - self.members.keys())
        for name, one in self.members.items():
            if one.pod.node is None and room > 0:
                room -= 1
                self.change(name, node=f"n-{name}", phase="Running", scheduled_at=self.now, unschedulable_since=None)
            elif one.pod.node is None:
                self.change(name, unschedulable_since=one.pod.unschedulable_since or self.now)
            elif not one.pod.is_ready and self.now - (one.pod.scheduled_at or 0.0) >= STARTS_SECONDS:
                self.change(name, is_ready=True, ready_at=self.now)
