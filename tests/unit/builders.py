"""Short ways to say what a cluster looks like; shared by unit and property tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.decide.plan_facts import PlanFacts, PolicyFacts
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, Node, OwnerRef, Pod, Snapshot, Workload
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.slots import Slot, slot_class

NOW = 1_800_000_000.0
POLICY = PolicyFacts(name="default", uid="policy-uid")


def node(name: str, cpu: int = 10, **fields: Any) -> Node:
    return Node(name=name, allocatable={"cpu": cpu, "pods": 110}, uid=f"uid-of-{name}", **fields)


def pod(name: str, node: str | None = None, *, cpu: int = 5, app: str = "web", **fields: Any) -> Pod:
    """A pod of the ReplicaSet `app`; bound and ready when it has a node, else unschedulable for a minute."""
    usual: dict[str, Any] = {
        "namespace": "team",
        "uid": f"uid-of-{name}",
        "requests": {"cpu": cpu, "pods": 1},
        "owner": OwnerRef("ReplicaSet", app, f"rs-{app}"),
        "template_hash": "v1",
        "labels": {"app": app},
        "scheduler_name": "stowage",
        "created_at": NOW - 600,
    }
    if node is None:
        usual |= {"unschedulable_since": NOW - 60}
    else:
        usual |= {"phase": "Running", "ready": True, "bound_at": NOW - 500}
    return Pod(name=name, node=node, **{**usual, **fields})


def replica_set(app: str, replicas: int, **fields: Any) -> Workload:
    return Workload(kind="ReplicaSet", namespace="team", name=app, uid=f"rs-{app}", replicas=replicas, **fields)


def budget(app: str, allowed: int = 1, **fields: Any) -> DisruptionBudget:
    selector = LabelSelector(labels=(("app", app),))
    return DisruptionBudget("team", app, f"pdb-{app}", selector, disruptions_allowed=allowed, **fields)


def snapshot(*facts: Node | Pod | Workload | DisruptionBudget, now: float = NOW) -> Snapshot:
    """A snapshot of the given facts, in any order."""

    def of(kind: type) -> tuple[Any, ...]:
        return tuple(fact for fact in facts if isinstance(fact, kind))

    return Snapshot(now, of(Node), of(Pod), of(Workload), of(DisruptionBudget))


def ref(pod: Pod) -> PodRef:
    return PodRef(pod.namespace, pod.name, pod.uid)


def evict(number: int, pod: Pod, slot: str | None = None, *after: str, swap: bool = False) -> Step:
    return Step(f"s{number:03d}", Action.EVICT, ref(pod), pod.node or "", slot, after, swap)


def place(number: int, pod: Pod, slot: Slot, *after: str) -> Step:
    return Step(f"s{number:03d}", Action.PLACE, ref(pod), slot.node, slot.id, after)


def slot(number: int, pod: Pod, node: str, standing: int = 0) -> Slot:
    return Slot(f"k{number:03d}", slot_class(pod), node, standing)


def plan(*parts: Step | Slot, **fields: Any) -> PlanFacts:
    """An approved plan of the given steps and slots."""
    usual: dict[str, Any] = {
        "name": "default-20270115-080000-abcd",
        "uid": "plan-uid",
        "policy": "default",
        "policy_uid": "policy-uid",
        "approval": Approval.APPROVED,
        "created_at": NOW,
        "steps": tuple(part for part in parts if isinstance(part, Step)),
        "slots": tuple(part for part in parts if isinstance(part, Slot)),
    }
    return PlanFacts(**{**usual, **fields})


def bound(pod: Pod, node: str, **fields: Any) -> Pod:
    """The pod, bound to a node and ready."""
    usual = {"node": node, "phase": "Running", "ready": True, "unschedulable_since": None, "bound_at": NOW}
    return structs.replace(pod, **{**usual, **fields})


def policy_resource(name: str = "default", **spec: Any) -> PackingPolicy:
    """A PackingPolicy as the API server would return it; `spec` in camelCase, `metadata` merged."""
    metadata = {"name": name, "uid": f"{name}-uid", "creationTimestamp": "2027-01-01T00:00:00Z", "generation": 1}
    return PackingPolicy.parse({"metadata": {**metadata, **spec.pop("metadata", {})}, "spec": spec})


def plan_resource(
    name: str, *steps: Step, slots: tuple[Slot, ...] = (), status: Mapping[str, Any] | None = None, **fields: Any
) -> PackingPlan:
    """A PackingPlan as the API server would return it; `fields` of metadata and spec in camelCase."""
    metadata = {"name": name, "uid": f"{name}-uid", "creationTimestamp": "2027-01-15T08:00:00Z", "generation": 1}
    spec = {
        "policy": fields.pop("policy", "default"),
        "approval": fields.pop("approval", "Approved"),
        "slots": [
            {
                "id": one.id,
                "class": {
                    "controllerUid": one.slot_class.controller_uid,
                    "revision": one.slot_class.revision,
                    "requests": one.slot_class.requests,
                },
                "node": one.node,
                "standing": one.standing,
            }
            for one in slots
        ],
        "steps": [
            {
                "id": one.id,
                "action": one.action.value,
                "pod": {"namespace": one.pod.namespace, "name": one.pod.name, "uid": one.pod.uid},
                "node": one.node,
                "slot": one.slot,
                "after": list(one.after),
                **({"gang": one.gang} if one.gang else {}),
            }
            for one in steps
        ],
    }
    return PackingPlan.parse({"metadata": {**metadata, **fields}, "spec": spec, "status": dict(status or {})})
