"""Why a pending pod was not planned for at all, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from stowage_scheduler.cluster import Pod, Unmodelled
from stowage_scheduler.counted import counted
from stowage_scheduler.gangs import GANG_GATE, GangState, foreign_gates
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.packing import Reason

_REASONS = {
    Immovable.OUT_OF_SCOPE: Reason.OUT_OF_SCOPE,
    Immovable.GATED: Reason.GATED,
    Immovable.NOMINATED: Reason.NOMINATED,
    Immovable.VOLUME_UNAVAILABLE: Reason.VOLUME_UNAVAILABLE,
    Immovable.UNBOUND_VOLUME: Reason.UNBOUND_VOLUME,
    Immovable.GANG_SIZE_UNREADABLE: Reason.GANG_SIZE_UNREADABLE,
    Immovable.POD_GROUP_MISSING: Reason.POD_GROUP_MISSING,
    Immovable.SCHEDULING_GROUP: Reason.SCHEDULING_GROUP,
    Immovable.GANG_INCOMPLETE: Reason.GANG_INCOMPLETE,
    Immovable.GANG_GATED: Reason.GANG_GATED,
    Immovable.GANG_NOMINATED: Reason.NOMINATED,
    Immovable.GANG_SCATTERED: Reason.GANG_TOPOLOGY,
    Immovable.GANG_TOO_LARGE: Reason.GANG_TOO_LARGE,
    Immovable.GANG_MEMBER: Reason.GANG_HELD_BACK,
}


def held_back(
    pod: Pod, why: Immovable, gang: GangState | None, left_out: Mapping[str, Immovable]
) -> tuple[Reason, str]:
    """The reason, and what would help.

    Args:
        pod: it waits.
        why: what keeps it from being planned for.
        gang: the gang of the pod, None when it has none.
        left_out: by UID, why pods are not planned for; says which of a gang's pods is to blame.
    """
    return _REASONS.get(why, Reason.NOT_MODELLED), _help(pod, why, gang, left_out)


def _help(pod: Pod, why: Immovable, gang: GangState | None, left_out: Mapping[str, Immovable]) -> str:
    own = _help_of_pod(pod, why)
    if own is not None:
        return own
    return _not_modelled(pod, why) if gang is None else _help_of_gang(pod, why, gang, left_out)


def _help_of_pod(pod: Pod, why: Immovable) -> str | None:
    match why:
        case Immovable.GATED if GANG_GATE in pod.gates and len(pod.gates) == 1:
            return "labels stowage.dev/gang and stowage.dev/gang-size: its gate is for pods of a gang"
        case Immovable.GATED:
            return f"whoever set {_gates(pod)} has to remove it"
        case Immovable.NOMINATED:
            return f"nothing: kube-scheduler is making room for it on node {pod.nominated_node}"
        case Immovable.VOLUME_UNAVAILABLE:
            return f"its volumes: {pod.volume_obstacle}"
        case Immovable.SCHEDULING_GROUP:
            return "steering Extender: kube-scheduler has to place its scheduling group; it still may do so alone"
        case Immovable.UNBOUND_VOLUME:
            return "steering Extender, or a claim that is bound: kube-scheduler has to choose its volume"
        case _:
            return None


def _help_of_gang(pod: Pod, why: Immovable, gang: GangState, left_out: Mapping[str, Immovable]) -> str:
    name = gang.key[1]
    match why:
        case Immovable.POD_GROUP_MISSING:
            resource, _, group = name.partition("/")
            return f"a PodGroup {group} in namespace {gang.key[0]} (kubectl get {resource}): none can be read"
        case Immovable.GANG_SIZE_UNREADABLE if pod.gang is not None and pod.gang.elastic:
            return f"the same topology, as keys of node labels, on all pods of gang {name}"
        case Immovable.GANG_SIZE_UNREADABLE:
            same = f"the same number, 1 to 10000, as label stowage.dev/gang-size of all pods of gang {name}"
            return f"{same}, and one topology"
        case Immovable.GANG_INCOMPLETE:
            return f"more pods: {len(gang.members)} of {counted(gang.size, 'pod')} of gang {name} exist"
        case Immovable.GANG_GATED:
            other = next(one for one in gang.waiting if foreign_gates(one))
            return f"whoever set {_gates(other)} on pod {other.key} of gang {name} has to remove it"
        case Immovable.GANG_NOMINATED:
            other = next(one for one in gang.waiting if one.nominated_node is not None)
            return f"nothing: kube-scheduler makes room for pod {other.key} of gang {name} on {other.nominated_node}"
        case Immovable.GANG_SCATTERED:
            where = f"one {' and one '.join(gang.required)}"
            on = ", ".join(sorted({one.node for one in gang.running if one.node is not None}))
            return f"its pods that run to stand in {where} again: gang {name} runs on {on}"
        case Immovable.GANG_TOO_LARGE:
            waiting = counted(len(gang.waiting), f"pod of gang {name} waits", f"pods of gang {name} wait")
            return f"smaller gangs: {waiting}, more than one plan places"
        case Immovable.GANG_MEMBER:
            other, its = _blocker(gang, left_out)
            return f"gang {name} waits as a whole for pod {other.key}: {_obstacle(other, its)}"
        case _:
            return _not_modelled(pod, why)


def _blocker(gang: GangState, left_out: Mapping[str, Immovable]) -> tuple[Pod, Immovable]:
    """The first pod that is itself the reason; one that nobody listed is out of the policy's scope."""
    for pod in gang.waiting:
        why = left_out.get(pod.uid, Immovable.OUT_OF_SCOPE)
        if why is not Immovable.GANG_MEMBER:
            return pod, why
    return gang.waiting[0], Immovable.OUT_OF_SCOPE


def _not_modelled(pod: Pod, why: Immovable) -> str:
    return f"{_obstacle(pod, why)}; kube-scheduler still may place it"


def _obstacle(pod: Pod, why: Immovable) -> str:
    if pod.unmodelled:
        return f"it uses {describe(pod.unmodelled)}, which the packer does not model yet"
    if why is Immovable.VOLUME_UNAVAILABLE:
        return pod.volume_obstacle
    return str(why)


def _gates(pod: Pod) -> str:
    gates = foreign_gates(pod)
    return f"scheduling gate{'s' if len(gates) > 1 else ''} {', '.join(gates)}"


def describe(unmodelled: tuple[Unmodelled, ...]) -> str:
    """The rules that are not modelled yet, for people."""
    return ", ".join(sorted(unmodelled))
