"""One thing that would help a pod, as a value: what it costs, and what the cluster would be like with it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from stowage_scheduler.cluster import Node, Pod


class HelpKind(StrEnum):
    """What somebody would do. Closed, and never renamed: scripts may rely on it."""

    WAIT = "Wait"
    MORE_TIME = "MoreTime"  # for the search
    MEND_NODE = "MendNode"  # make it Ready, uncordon it
    ALLOW = "Allow"  # moves, evictions or preemption that a policy, an annotation or the pod forbids
    RELAX_RULE = "RelaxRule"
    SMALLER_REQUEST = "SmallerRequest"
    HIGHER_PRIORITY = "HigherPriority"
    MORE_NODES = "MoreNodes"


class Help(Struct, frozen=True):
    """What would help, tried out on the end of the plan.

    `pod` would then find a place on `node`: it asks for less if it has to; `gone` are UIDs of pods that leave,
    `moved` tells where others go, `nodes` are new ones and those that change. `cost` ranks: what a person would
    rather do comes first.
    """

    kind: HelpKind
    text: str
    cost: float
    pod: Pod
    node: str
    gone: tuple[str, ...] = ()
    moved: Mapping[str, str] = {}
    nodes: tuple[Node, ...] = ()
