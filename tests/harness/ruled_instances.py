"""Clusters in which rules, more than room, decide how many pods find a place."""

from __future__ import annotations

import random
from typing import Any

from harness.facts import node, pod, snapshot
from harness.naive_rules import Rules
from stowage_scheduler.cluster import (
    Gang,
    HostPort,
    LabelSelector,
    Node,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
)
from stowage_scheduler.gangs import GANG_GATE

KINDS = ("alone", "zone", "pair", "port", "spread", "spread hosts", "near", "gang", "plain")
_WIDE = {"alone", "port", "spread hosts"}  # up to one pod for each node
_ZONES = "abc"
_ROOM = 4_000


def ruled_instance(nodes: int, usage_percent: int, seed: int) -> Snapshot:
    """Nodes in three zones, and half as many Deployments again; about half of the pods run.

    Args:
        nodes: how many.
        usage_percent: what all pods request, in percent of all room.
        seed: of all that is drawn.
    """
    chance = random.Random(seed)
    made = [
        node(f"n{number}", _ROOM, labels={"host": f"n{number}", "zone": _ZONES[number % len(_ZONES)]})
        for number in range(nodes)
    ]
    kinds = [chance.choice(KINDS) for _ in range(3 * nodes // 2)]
    counts = [chance.randint(1, nodes if kind in _WIDE else 5) for kind in kinds]
    sizes = [chance.randint(2, 8) for _ in kinds]
    unit = nodes * _ROOM * usage_percent / (100 * sum(a * b for a, b in zip(counts, sizes, strict=True)))
    pods: list[Pod] = []
    for number, (kind, count, size) in enumerate(zip(kinds, counts, sizes, strict=True)):
        template = {"cpu": min(_ROOM, int(size * unit)), **_template(kind, number, chance)}
        pods += [pod(f"rs{number}-{one}", **template) for one in range(count)]
    chance.shuffle(pods)
    return snapshot(*made, *_standing(made, pods, chance))


def _template(kind: str, number: int, chance: random.Random) -> dict[str, Any]:
    app, other = f"app{number}", f"app{number - 1}"
    own, before = LabelSelector((("app", app),)), LabelSelector((("app", other),))
    rules: dict[str, dict[str, Any]] = {
        "alone": {"anti_affinity_terms": (PodAffinityTerm("host", own, ("default",)),)},
        "zone": {"anti_affinity_terms": (PodAffinityTerm("zone", own, ("default",)),)},
        "pair": {"anti_affinity_terms": (PodAffinityTerm("host", before, ("default",)),)},
        "port": {"host_ports": (HostPort("TCP", "0.0.0.0", chance.choice([80, 443])),)},
        "spread": {"spread": (SpreadConstraint("zone", 1, own, chance.choice([1, 3, 4])),)},
        "spread hosts": {"spread": (SpreadConstraint("host", chance.choice([1, 2]), own, 1),)},
        "near": {"affinity_terms": (PodAffinityTerm("zone", before, ("default",)),)},
        "gang": {"gang": Gang(app, 1, ("zone",)), "gates": (GANG_GATE,)},
        "plain": {},
    }
    return {
        "priority": chance.choice([0, 0, 10]),
        "labels": {"app": app},
        **rules[kind],
    }


def _standing(nodes: list[Node], pods: list[Pod], chance: random.Random) -> list[Pod]:
    """The pods, about half of them where they came one after the other."""
    rules = Rules({one.name: one for one in nodes}, {one.uid: one for one in pods})
    room = dict.fromkeys(rules.nodes, _ROOM)
    where: dict[str, str] = {}
    ports: set[tuple[str, int]] = set()
    found = []
    for one in pods:
        wanted = {port.port for port in one.host_ports}
        fitting = [
            place.name
            for place in nodes
            if room[place.name] >= one.requests["cpu"]
            and not any((place.name, port) in ports for port in wanted)
            and rules.admits(one, place, where)
        ]
        if one.gang is not None or not fitting or chance.random() < 0.4:
            found.append(one)
            continue
        name = chance.choice(fitting)
        where[one.uid] = name
        room[name] -= one.requests["cpu"]
        ports |= {(name, port) for port in wanted}
        template = {"labels": one.labels, "priority": one.priority, "host_ports": one.host_ports}
        template |= {"affinity_terms": one.affinity_terms, "spread": one.spread}
        template["anti_affinity_terms"] = one.anti_affinity_terms
        found.append(pod(one.name, one.requests["cpu"], on=name, **template))
    return found
