"""Ordered rules from events to actions: those of the job first, then defaults that cover every event.

The defaults take the cheapest action that can work: 73 to 75 % of failures need only their processes started again
(Unicron, arXiv:2401.00134; DLRover's flash checkpoint). What failed escalates: `stowage.decide.training.escalation`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stowage.api.training_words import Action, Event
from stowage.decide.training.facts import Evidence, RuleFacts

NVSENTINEL_CONDITIONS: Final = frozenset(
    {
        "GpuMemWatch",
        "GpuThermalWatch",
        "GpuPcieWatch",
        "GpuPowerWatch",
        "GpuInforomWatch",
        "GpuSmWatch",
        "GpuNvlinkWatch",
        "GpuDriverWatch",
        "SysLogsXIDError",
        "SysLogsSXIDError",
        "SysLogsGPUFallenOff",
        "NVSwitchFatalError",
        "NVSwitchDown",
    }
)
"""Set to `True` by NVSentinel for fatal errors alone (its docs/INTEGRATIONS.md)."""

PROBLEM_DETECTOR_CONDITIONS: Final = frozenset(
    {
        "KernelDeadlock",
        "ReadonlyFilesystem",
        "CorruptDockerOverlay2",
        "FrequentKubeletRestart",
        "FrequentDockerRestart",
        "FrequentContainerdRestart",
        "FrequentUnregisterNetDevice",
        "KubeletUnhealthy",
        "ContainerRuntimeUnhealthy",
    }
)
"""Permanent problems of node-problem-detector's default configurations."""

MAINTENANCE_CONDITIONS: Final = frozenset({"CSPMaintenance"})
"""The provider is about to take the node: nobody's fault."""

FAULT_TAINTS: Final = frozenset({"nvidia.com/gpu-xid-error"})
MAINTENANCE_TAINTS: Final = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "cloud.google.com/impending-node-termination",
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
    }
)
UNUSABLE_IMAGES: Final = frozenset({"InvalidImageName"})
"""No node and no patience helps."""

DEFAULT_RULES: Final = (
    RuleFacts(
        Action.REPLACE_NODE,
        frozenset({Event.NODE_CONDITION}),
        names=NVSENTINEL_CONDITIONS | PROBLEM_DETECTOR_CONDITIONS | MAINTENANCE_CONDITIONS,
    ),
    RuleFacts(Action.REPLACE_NODE, frozenset({Event.NODE_TAINT}), names=FAULT_TAINTS | MAINTENANCE_TAINTS),
    RuleFacts(Action.IGNORE, frozenset({Event.NODE_CONDITION, Event.NODE_TAINT})),
    RuleFacts(
        Action.REPLACE_NODE,
        frozenset(
            {Event.NODE_LOST, Event.DEVICE_UNHEALTHY, Event.DISRUPTION, Event.POD_DELETED, Event.SUPERVISOR_LOST}
        ),
    ),
    RuleFacts(
        Action.FAIL,
        frozenset({Event.IMAGE_UNAVAILABLE}),
        names=UNUSABLE_IMAGES,
        message="the name of the image is none that can be pulled",
    ),
    RuleFacts(Action.REPLACE_NODE, frozenset({Event.IMAGE_UNAVAILABLE})),
    RuleFacts(Action.RESTART_CONTAINER, frozenset({Event.OUT_OF_MEMORY, Event.CONTAINER_EXITED, Event.START_TIMEOUT})),
    RuleFacts(Action.RESTART_PROCESSES, frozenset({Event.PROCESS_EXITED, Event.HANG, Event.NON_FINITE})),
    RuleFacts(Action.IGNORE, frozenset({Event.PROMQL, Event.LOG, Event.COORDINATOR_LOST})),
)


class Match(Struct, frozen=True):
    """The rule that speaks for evidence; `number` counts the job's rules from 0, None: a default."""

    rule: RuleFacts
    number: int | None = None


def matched(evidence: Evidence, rules: tuple[RuleFacts, ...]) -> Match:
    """The first rule that matches: `rules` of the job in their order, then the defaults, one of which always does.

    That a pod is gone can be ignored by nobody, for its seat would stay empty: there the default holds. It is so too
    where the pod is still shown because our finalizer holds it.
    """
    found = next((Match(rule, number) for number, rule in enumerate(rules) if matches(rule, evidence)), None)
    if found is not None and (found.rule.action is not Action.IGNORE or not evidence.gone):
        return found
    return Match(next(rule for rule in DEFAULT_RULES if matches(rule, evidence)))


def matches(rule: RuleFacts, evidence: Evidence) -> bool:
    """Whether all that the rule asks for is so; what it leaves open matches anything."""
    wishes = (
        (rule.events, evidence.event),
        (rule.codes, evidence.code),
        (rule.signals, evidence.signal),
        (rule.names, evidence.name),
        (rule.error_types, evidence.error_type),
    )
    return all(not wanted or seen in wanted for wanted, seen in wishes)
