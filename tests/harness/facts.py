"""Short builders of facts for packing tests: one line per node and pod."""

from __future__ import annotations

from typing import Any

from stowage_scheduler.cluster import CPU, PODS, Gang, Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing

NOW = 1_767_225_600.0
OPTIONS = PackOptions(owner_settled_seconds=0.0)
BUDGET = Budget(deterministic_units=3.0, workers=2)


def node(name: str, cpu: int = 1000, **more: Any) -> Node:
    """A node with `cpu` milli-CPU, further resources in `extra`."""
    extra = more.pop("extra", {})
    return Node(name, {CPU: cpu, PODS: 110, **extra}, **more)


def pod(name: str, cpu: int = 100, on: str | None = None, **more: Any) -> Pod:
    """A pod of the ReplicaSet named like the pod up to its last dash; pending unless `on` a node."""
    extra = more.pop("extra", {})
    owner = more.pop("owner", OwnerRef("ReplicaSet", name.rpartition("-")[0] or name, f"rs-{name.rpartition('-')[0]}"))
    return Pod(
        namespace=more.pop("namespace", "default"),
        name=name,
        uid=more.pop("uid", f"uid-{name}"),
        requests={CPU: cpu, PODS: 1, **extra},
        node=on,
        phase="Running" if on else "Pending",
        ready=on is not None,
        owner=owner,
        created_at=NOW - 3600,
        **more,
    )


def gang(name: str, size: int, cpu: int = 100, members: int | None = None, **more: Any) -> list[Pod]:
    """Waiting pods `NAME-0` … of a gang, behind its gate; as many as its size unless told otherwise."""
    usual: dict[str, Any] = {"gang": Gang(name, size), "gates": (GANG_GATE,)}
    count = size if members is None else members
    return [pod(f"{name}-{number}", cpu, **{**usual, **more}) for number in range(count)]


def snapshot(*facts: Node | Pod, **more: Any) -> Snapshot:
    """A snapshot of nodes and pods in any order."""
    nodes = tuple(fact for fact in facts if isinstance(fact, Node))
    pods = tuple(fact for fact in facts if isinstance(fact, Pod))
    return Snapshot(NOW, nodes, pods, **more)


def packed(cluster: Snapshot, options: PackOptions = OPTIONS, budget: Budget = BUDGET, seed: int = 1) -> Packing:
    """The packing of a snapshot in deterministic mode, with a clock that stands still."""
    return pack(cluster, options, budget, seed, lambda: 0.0)


def places(packing: Packing) -> dict[str, str]:
    """Pod names to node names."""
    return {entry.pod.name: entry.node for entry in packing.assignments}
