"""Which pod may go to which node while a plan runs: leases of slots, and refusals for everybody else.

One table answers for all active plans. It is a pure state machine: pods and plans come in as facts,
time is an injected clock, and no answer costs more than one pass over the offered node names.

Two things keep a slot from being given away twice. *Filled* is level-triggered: it is counted from the
pods that are bound, so a restart loses nothing. A *lease* covers the time between an answer and the
moment its effect is seen: kube-scheduler assumes a pod on its node long before the bound pod shows up
in a watch, and in that window a second replica must be sent elsewhere. kube-scheduler may also ask for a pod that is
gone by then: it gets no lease, and one that it has ends when another pod of its name asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct
from msgspec import field as default

from stowage_scheduler.cluster import Pod
from stowage_scheduler.kept_empty import KeptEmpty
from stowage_scheduler.kube.sharing import shared
from stowage_scheduler.slots import Slot, SlotClass, slot_class

_Key = TypeVar("_Key")

LEASE_SECONDS = 30.0
RESERVED = "reserved by plan"  # users and the operator recognise a refusal by these words


class ActivePlan(Struct, frozen=True):
    """A plan whose slots are to be kept: approved, and neither finished nor aborted.

    `slots` leaves out those that are void. `waiting` are ids of slots that are kept, but that nobody may take
    yet: other pods need their room first. Nobody may go to the nodes of `closed`, which the plan empties. No two active
    plans should share a node; if they do, each keeps its own slots there.
    """

    uid: str
    name: str
    slots: tuple[Slot, ...]
    waiting: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()


class Lease(Struct, frozen=True):
    """A slot promised to one pod until `expires_at` (seconds of the table's clock)."""

    pod_key: str
    pod_uid: str
    plan_uid: str
    slot_id: str
    node: str
    expires_at: float


class FilterAnswer(Struct, frozen=True):
    """Which of the offered nodes a pod may use, in the offered order.

    `refused` says why for nodes that must not be used, and that preemption there would not help either.
    It is left empty when a slot was leased, for then nobody asks about the other nodes. `lease` is the
    slot that the pod was sent to, if any.
    """

    node_names: Sequence[str]
    refused: dict[str, str] = default(default_factory=dict)
    lease: Lease | None = None


@dataclass(eq=False)
class _Seats:
    """The interchangeable slots of one plan, class and node."""

    plan_uid: str
    plan_name: str
    slot_class: SlotClass
    node: str
    standing: int
    slot_ids: list[str] = field(default_factory=list)
    filled: int = 0
    waiting: int = 0  # slots that may not be taken yet
    leased: dict[str, str] = field(default_factory=dict)  # pod UID -> slot id

    @property
    def open(self) -> bool:
        """Whether a slot is not filled yet, leased or not."""
        return self.filled < len(self.slot_ids)

    @property
    def overcommitted(self) -> bool:
        """Whether more pods run here or are promised a slot than there are slots."""
        return self.filled + len(self.leased) > len(self.slot_ids)

    def free_slot_id(self) -> str | None:
        """A slot that is neither filled nor leased nor waiting."""
        taken = set(self.leased.values())
        unleased = [slot_id for slot_id in self.slot_ids if slot_id not in taken]
        return unleased[self.filled] if self.filled + self.waiting < len(unleased) else None


class _Bound(Struct, frozen=True, gc=False):
    """What is remembered of a pod that holds room on a node.

    There are as many as pods: the garbage collector, which stops all answers, has none of them to look at.
    """

    slot_class: SlotClass
    node: str


class Reservations:
    """Slots of all active plans, and who may have them.

    Args:
        clock: seconds that only go forward; leases end by it.
        lease_seconds: how long a slot stays promised to a pod that is not seen bound.
    """

    def __init__(self, clock: Callable[[], float], lease_seconds: float = LEASE_SECONDS) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._plans: dict[str, ActivePlan] = {}
        self._seats: dict[SlotClass, list[_Seats]] = {}
        self._reserved: dict[str, list[_Seats]] = {}  # node -> seats with an open slot
        self._closed: dict[str, str] = {}  # node that a plan empties -> name of the plan
        self._refused: Mapping[str, str] | None = None  # what is said of each of these nodes, once it was asked for
        self._leases: dict[str, tuple[Lease, _Seats]] = {}  # by pod UID, in the order in which they end
        self.kept_empty = KeptEmpty(clock)
        self._gone: dict[str, float] = {}  # when pods were seen to have ended or gone lately, by UID, oldest first
        self._bound: dict[str, _Bound] = {}  # by pod UID
        self._bound_count: dict[_Bound, int] = {}

    @property
    def idle(self) -> bool:
        """Whether no plan is active and no node is kept empty: then every pod may use every node."""
        return not self._plans and not self.kept_empty

    @property
    def plans(self) -> dict[str, ActivePlan]:
        """The active plans by UID."""
        return dict(self._plans)

    @property
    def reserved_nodes(self) -> frozenset[str]:
        """Nodes that refuse pods outside the plans: a slot there is open, or they are to be empty."""
        return frozenset(self._reserved) | self._closed.keys()

    @property
    def open_slots(self) -> int:
        """Slots that no pod has filled yet, leased or not."""
        return sum(len(seats.slot_ids) - seats.filled for at_node in self._reserved.values() for seats in at_node)

    def leases(self) -> tuple[Lease, ...]:
        """The leases that hold now."""
        self._end_expired_leases()
        return tuple(lease for lease, _ in self._leases.values())

    # facts

    def pod_seen(self, pod: Pod) -> None:
        """Take in the newest state of a pod: pending, bound, terminating or finished."""
        ended = pod.terminating or pod.finished
        if ended:
            self._remember_gone(pod.uid)
        if ended or pod.node is not None:
            self._end_lease(pod.uid)
        self._set_bound(pod.uid, None if ended or pod.node is None else _Bound(shared(slot_class(pod)), pod.node))

    def pod_gone(self, uid: str) -> None:
        """Forget a deleted pod; its lease ends."""
        self._remember_gone(uid)
        self._end_lease(uid)
        self._set_bound(uid, None)

    def plan_seen(self, plan: ActivePlan) -> None:
        """Keep the slots of a plan. Seen again with other slots, leases of slots that stay go on."""
        if self._plans.get(plan.uid) == plan:
            return
        self._drop_seats(plan.uid)
        self._plans[plan.uid] = plan
        self._close()
        seats_by_slot = {slot.id: self._add_slot(plan, slot) for slot in plan.slots}
        for pod_uid, (lease, _) in list(self._leases.items()):
            if lease.plan_uid != plan.uid:
                continue
            seats = seats_by_slot.get(lease.slot_id)
            if seats is None or seats.node != lease.node:
                del self._leases[pod_uid]
            else:
                self._leases[pod_uid] = (lease, seats)
                seats.leased[pod_uid] = lease.slot_id
        for seats in seats_by_slot.values():
            self._recount(seats)

    def plan_gone(self, uid: str) -> None:
        """Give up the slots and leases of a plan that ended or was deleted."""
        if self._plans.pop(uid, None) is None:
            return
        self._drop_seats(uid)
        self._close()
        for pod_uid in [pod_uid for pod_uid, (lease, _) in self._leases.items() if lease.plan_uid == uid]:
            del self._leases[pod_uid]

    # answers

    def filter(self, pod: Pod, node_names: Sequence[str]) -> FilterAnswer:
        """Which of `node_names` the pod may use.

        A pod whose class has a slot to give gets exactly the node of one slot, which is leased to it; or no
        node when none of those nodes is offered, or when nobody may take those slots yet. Every other pod gets
        the offered nodes without an open slot, and of these none that an earlier plan has emptied if there are others.
        """
        if self._plans:
            self._end_expired_leases()
            self._end_leases_of_namesakes(pod)
            choices = self._steering(pod)
            if choices:
                return self._filter_planned(pod, choices, node_names)
        if _exempt(pod):
            return FilterAnswer(node_names)
        answer = self._filter_outsider(node_names)
        others = self.kept_empty.others(answer.node_names)
        return answer if others is answer.node_names else FilterAnswer(others, answer.refused)

    def _filter_outsider(self, node_names: Sequence[str]) -> FilterAnswer:
        if not (self._reserved or self._closed):
            return FilterAnswer(node_names)
        refusals = self._refusals()
        admitted = [name for name in node_names if name not in refusals]
        if len(admitted) == len(node_names):
            return FilterAnswer(node_names)
        return FilterAnswer(admitted, {name: refusals[name] for name in node_names if name in refusals})

    def preempt(self, pod: Pod, candidates: Collection[str]) -> list[str]:
        """On which of the candidate nodes the pod may preempt others.

        None for a pod that has a slot to go to: who yields is part of the plan. Others keep away from nodes
        with an open slot.
        """
        self._end_expired_leases()
        if self._steering(pod):
            return []
        if _exempt(pod):
            return list(candidates)
        return [name for name in candidates if name not in self._reserved and name not in self._closed]

    def _filter_planned(self, pod: Pod, choices: list[_Seats], node_names: Sequence[str]) -> FilterAnswer:
        offered = set(node_names)
        held, seats_held = self._leases.get(pod.uid, (None, None))
        if held is not None and seats_held is not None and held.node in offered:
            return self._lease(pod, held.slot_id, seats_held)
        for seats in choices:
            slot_id = seats.free_slot_id() if seats.node in offered else None
            if slot_id is not None:
                self._end_lease(pod.uid)
                return self._lease(pod, slot_id, seats)
        elsewhere = f"its place on another node is {RESERVED} {choices[0].plan_name}"
        refusals = self._refusals()
        return FilterAnswer([], {name: refusals.get(name, elsewhere) for name in node_names})

    def _steering(self, pod: Pod) -> list[_Seats]:
        """The open seats of a pod's class if it holds a lease, or can get one now or later; else nothing."""
        if pod.uid in self._bound or pod.uid in self._gone:
            return []
        choices = [seats for seats in self._seats.get(slot_class(pod), ()) if seats.open]
        if pod.uid in self._leases or any(seats.waiting or seats.free_slot_id() is not None for seats in choices):
            return choices
        return []

    def _refusals(self) -> Mapping[str, str]:
        """Why each node with an open slot refuses others; kept until such a node comes or goes."""
        if self._refused is None:
            holders = self._closed | {node: at_node[0].plan_name for node, at_node in self._reserved.items()}
            self._refused = {node: f"{RESERVED} {plan}" for node, plan in holders.items()}
        return self._refused

    def _close(self) -> None:
        self._closed = {node: plan.name for plan in self._plans.values() for node in plan.closed}

    # leases

    def _lease(self, pod: Pod, slot_id: str, seats: _Seats) -> FilterAnswer:
        lease = Lease(pod.key, pod.uid, seats.plan_uid, slot_id, seats.node, self._clock() + self._lease_seconds)
        self._leases.pop(pod.uid, None)  # so that a renewed lease moves to the end of the order
        self._leases[pod.uid] = (lease, seats)
        seats.leased[pod.uid] = slot_id
        return FilterAnswer([seats.node], lease=lease)

    def _end_lease(self, pod_uid: str) -> None:
        _, seats = self._leases.pop(pod_uid, (None, None))
        if seats is not None:
            del seats.leased[pod_uid]

    def _end_leases_of_namesakes(self, pod: Pod) -> None:
        """Two pods of one name are never there at once: whoever had it before is gone, seen or not."""
        before = [one.pod_uid for one, _ in self._leases.values() if one.pod_key == pod.key and one.pod_uid != pod.uid]
        for uid in before:
            self._end_lease(uid)

    def _remember_gone(self, uid: str) -> None:
        """For as long as a lease would last: by then the scheduler has heard of it too."""
        now = self._clock()
        self._gone[uid] = self._gone.pop(uid, now)
        while self._gone:
            oldest = next(iter(self._gone))
            if self._gone[oldest] > now - self._lease_seconds:
                return
            del self._gone[oldest]

    def _end_expired_leases(self) -> None:
        now = self._clock()
        while self._leases:
            oldest, _ = next(iter(self._leases.values()))
            if oldest.expires_at > now:
                return
            self._end_lease(oldest.pod_uid)

    # seats

    def _add_slot(self, plan: ActivePlan, slot: Slot) -> _Seats:
        of_class = self._seats.setdefault(slot.slot_class, [])
        for seats in of_class:
            if seats.plan_uid == plan.uid and seats.node == slot.node:
                break
        else:
            seats = _Seats(plan.uid, plan.name, slot.slot_class, slot.node, slot.standing)
            of_class.append(seats)
        seats.slot_ids.append(slot.id)
        seats.waiting += slot.id in plan.waiting
        return seats

    def _drop_seats(self, plan_uid: str) -> None:
        self._seats = _without(self._seats, plan_uid)
        self._reserved = _without(self._reserved, plan_uid)
        self._refused = None

    def _set_bound(self, uid: str, now: _Bound | None) -> None:
        before = self._bound.pop(uid, None)
        if now is not None:
            self._bound[uid] = now
        if before == now:
            return
        if before is not None:
            self._bound_count[before] -= 1
            if not self._bound_count[before]:
                del self._bound_count[before]
            self._recount_at(before)
        if now is not None:
            self._bound_count[now] = self._bound_count.get(now, 0) + 1
            self._recount_at(now)

    def _recount_at(self, place: _Bound) -> None:
        for seats in self._seats.get(place.slot_class, ()):
            if seats.node == place.node:
                self._recount(seats)

    def _recount(self, seats: _Seats) -> None:
        bound = self._bound_count.get(_Bound(seats.slot_class, seats.node), 0)
        seats.filled = min(max(0, bound - seats.standing), len(seats.slot_ids))
        while seats.overcommitted:  # a pod without a lease took the room: the newest promise cannot be kept
            self._end_lease(next(reversed(seats.leased)))
        at_node = self._reserved.setdefault(seats.node, [])
        if seats.open and seats not in at_node:
            at_node.append(seats)
            self._refused = None
        elif not seats.open and seats in at_node:
            at_node.remove(seats)
            self._refused = None
        if not at_node:
            del self._reserved[seats.node]


def _exempt(pod: Pod) -> bool:
    """DaemonSet pods belong to their node, reserved or not."""
    return pod.owner is not None and pod.owner.kind == "DaemonSet"


def _without(index: Mapping[_Key, list[_Seats]], plan_uid: str) -> dict[_Key, list[_Seats]]:
    """An index of seats without those of one plan."""
    kept = {key: [seats for seats in found if seats.plan_uid != plan_uid] for key, found in index.items()}
    return {key: found for key, found in kept.items() if found}
