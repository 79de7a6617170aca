"""Reservations against a plain model: a slot is never promised twice, outsiders never get a kept node."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stowage_scheduler.cluster import OwnerRef, Pod
from stowage_scheduler.reservations import LEASE_SECONDS, ActivePlan, FilterAnswer, Reservations
from stowage_scheduler.slots import Slot, slot_class

NODES = [f"n{i}" for i in range(4)]
OWNERS = [
    OwnerRef("ReplicaSet", "web", "rs-web"),
    OwnerRef("ReplicaSet", "api", "rs-api"),
    OwnerRef("StatefulSet", "db", "sts-db"),
    OwnerRef("DaemonSet", "log", "ds-log"),
]
PLANS = ["plan-a", "plan-b"]
WEB = OWNERS[0]
offered_nodes = st.one_of(st.just(NODES), st.lists(st.sampled_from(NODES), unique=True))
some_owner = st.one_of(st.just(WEB), st.sampled_from(OWNERS))
# few different places, so that slots of one class share nodes
some_places = st.lists(
    st.tuples(st.one_of(st.just(WEB), st.sampled_from(OWNERS[:3])), st.integers(0, 1), st.sampled_from(NODES[:3])),
    min_size=1,
    max_size=6,
)


def replica(owner: OwnerRef, number: int) -> Pod:
    # a StatefulSet gives the same names again, everybody else new ones
    name = f"{owner.name}-{number % 2 if owner.kind == 'StatefulSet' else number}"
    return Pod("default", name, f"uid-{number}", {"cpu": 100}, owner=owner, template_hash="r1")


class Steering(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = Reservations(lambda: self.now)
        self.pods: dict[str, Pod] = {}
        self.plans: dict[str, ActivePlan] = {}
        self.created = 0

    # what the model knows

    def pending(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.node is None and not pod.terminating]

    def filled(self, plan: ActivePlan) -> Counter[tuple[object, str]]:
        running = Counter((slot_class(p), p.node) for p in self.pods.values() if p.node and not p.terminating)
        standing = {(slot.slot_class, slot.node): slot.standing for slot in plan.slots}
        return Counter({place: max(0, running[place] - count) for place, count in standing.items()})

    def kept_nodes(self) -> set[str]:
        kept = set()
        for plan in self.plans.values():
            filled = self.filled(plan)
            slots = Counter((slot.slot_class, slot.node) for slot in plan.slots)
            kept |= {node for (cls, node), count in slots.items() if filled[cls, node] < count}
        return kept

    def see(self, pod: Pod) -> None:
        self.pods[pod.uid] = pod
        self.table.pod_seen(pod)

    # what happens in a cluster

    @initialize(places=some_places)
    def start(self, places: list[tuple[OwnerRef, int, str]]) -> None:
        for _ in range(3):
            self.create_pod(WEB)
        self.plan(PLANS[0], places, 0)

    @rule(owner=some_owner)
    def create_pod(self, owner: OwnerRef) -> None:
        self.created += 1
        self.see(replica(owner, self.created))

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), node=st.sampled_from(NODES))
    def bind_anywhere(self, data: st.DataObject, node: str) -> None:
        """Another scheduler was faster, or somebody bound by hand."""
        self.see(msgspec.structs.replace(data.draw(st.sampled_from(self.pending())), node=node, phase="Running"))

    @precondition(lambda self: self.table.leases())
    @rule(data=st.data())
    def bind_as_told(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.table.leases()))
        self.see(msgspec.structs.replace(self.pods[lease.pod_uid], node=lease.node, phase="Running"))
        assert lease.pod_uid not in {lease.pod_uid for lease in self.table.leases()}

    @precondition(lambda self: len(self.pods) > 4)
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        self.see(msgspec.structs.replace(data.draw(st.sampled_from(list(self.pods.values()))), terminating=True))

    @precondition(lambda self: len(self.pods) > 4)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(list(self.pods)))
        del self.pods[uid]
        self.table.pod_gone(uid)

    @rule(seconds=st.sampled_from([0.1, 5.0, LEASE_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        uid=st.sampled_from(PLANS),
        places=some_places,
        standing=st.integers(0, 1),
    )
    def plan(self, uid: str, places: list[tuple[OwnerRef, int, str]], standing: int) -> None:
        other_nodes = {slot.node for plan in self.plans.values() if plan.uid != uid for slot in plan.slots}
        slots = tuple(
            Slot(f"k{number:03}", slot_class(replica(owner, seat)), node, standing)
            for number, (owner, seat, node) in enumerate(places)
            if node not in other_nodes
        )
        self.plans[uid] = ActivePlan(uid, f"{uid}-name", slots)
        self.table.plan_seen(self.plans[uid])

    @rule(keep=st.integers(0, 5))
    def slots_become_void(self, keep: int) -> None:
        for plan in list(self.plans.values()):
            self.plans[plan.uid] = msgspec.structs.replace(plan, slots=plan.slots[:keep])
            self.table.plan_seen(self.plans[plan.uid])

    @precondition(lambda self: len(self.plans) > 1)
    @rule(uid=st.sampled_from(PLANS))
    def plan_ends(self, uid: str) -> None:
        self.plans.pop(uid, None)
        self.table.plan_gone(uid)

    # what kube-scheduler asks

    def ask(self, pod: Pod, names: list[str]) -> FilterAnswer:
        held = {lease.pod_uid: lease for lease in self.table.leases()}
        kept = self.kept_nodes()
        answer = self.table.filter(pod, names)
        assert set(answer.node_names) <= set(names)
        assert not set(answer.node_names) & set(answer.refused)
        if answer.lease is not None:
            plan = self.plans[answer.lease.plan_uid]
            slot = next(slot for slot in plan.slots if slot.id == answer.lease.slot_id)
            assert slot.slot_class == slot_class(pod)
            assert list(answer.node_names) == [slot.node]
            before = held.get(pod.uid)
            if before is not None and before.node in names:
                assert (before.plan_uid, before.slot_id) == (answer.lease.plan_uid, slot.id)
        elif pod.owner is not None and pod.owner.kind == "DaemonSet":
            assert list(answer.node_names) == names
        else:
            assert not set(answer.node_names) & kept
            assert set(answer.node_names) in (set(names) - kept, set())
            assert all("reserved by plan" in message for message in answer.refused.values())
            assert set(answer.node_names) | set(answer.refused) == set(names)
        return answer

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), names=offered_nodes)
    def filter_one(self, data: st.DataObject, names: list[str]) -> None:
        self.ask(data.draw(st.sampled_from(self.pending())), names)

    @precondition(lambda self: len(self.pending()) > 1)
    @rule(data=st.data(), names=offered_nodes)
    def filter_replicas_back_to_back(self, data: st.DataObject, names: list[str]) -> None:
        first = data.draw(st.sampled_from(self.pending()))
        answers = [self.ask(pod, names) for pod in self.pending() if pod.owner == first.owner]
        given = [(a.lease.plan_uid, a.lease.slot_id) for a in answers if a.lease is not None]
        assert len(given) == len(set(given))

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), names=offered_nodes)
    def preempt(self, data: st.DataObject, names: list[str]) -> None:
        pod = data.draw(st.sampled_from(self.pending()))
        kept = self.table.preempt(pod, names)
        assert set(kept) <= set(names)
        if pod.owner is None or pod.owner.kind != "DaemonSet":
            assert not set(kept) & self.kept_nodes()

    # what always holds

    @invariant()
    def no_slot_is_promised_twice(self) -> None:
        leases = self.table.leases()
        promised = Counter((lease.plan_uid, lease.slot_id) for lease in leases)
        assert all(count == 1 for count in promised.values())
        assert {lease.pod_uid for lease in leases} <= {pod.uid for pod in self.pending()}

    @invariant()
    def no_node_is_promised_to_more_pods_than_it_has_slots(self) -> None:
        for plan in self.plans.values():
            slots = Counter((slot.slot_class, slot.node) for slot in plan.slots)
            leased = Counter(
                (slot_class(self.pods[lease.pod_uid]), lease.node)
                for lease in self.table.leases()
                if lease.plan_uid == plan.uid
            )
            filled = self.filled(plan)
            for place, count in slots.items():
                assert leased[place] == 0 or filled[place] + leased[place] <= count

    @invariant()
    def kept_nodes_are_those_with_an_open_slot(self) -> None:
        assert self.table.reserved_nodes == self.kept_nodes()


Steering.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_steering = Steering.TestCase
