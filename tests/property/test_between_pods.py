"""Affinity, anti-affinity and spread on random small clusters: at the end and whenever a pod lands."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from harness.naive_rules import Rules
from stowage_scheduler.cluster import (
    Gang,
    LabelSelector,
    Node,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
)
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.options import Budget
from stowage_scheduler.packing import Action, Packing, Step

SHORT = Budget(deterministic_units=0.2, workers=2)
APPS = {app: LabelSelector((("app", app),)) for app in ("red", "blue")}
KEYS = st.sampled_from(["zone", "host"])
TERMS = st.builds(PodAffinityTerm, KEYS, st.sampled_from([*APPS.values()]), st.just(("default",)))
SPREADS = st.builds(
    SpreadConstraint,
    KEYS,
    st.integers(1, 2),
    st.sampled_from([*APPS.values(), LabelSelector()]),
    st.integers(1, 3),
)


@st.composite
def clusters(draw: st.DrawFn, nodes: int = 5, sets: int = 5, replicas: int = 4, *, follow: bool = True) -> Snapshot:
    """Nodes in two zones, some in none; running pods stand where they came one after the other, the rest waits."""
    made = [
        make_node(
            f"n{number}",
            draw(st.integers(3, 8)) * 100,
            labels={"host": f"n{number}"} | draw(st.sampled_from([{"zone": "a"}, {"zone": "b"}, {}])),
        )
        for number in range(draw(st.integers(2, nodes)))
    ]
    pods: list[Pod] = []
    for number in range(draw(st.integers(1, sets))):
        app = draw(st.sampled_from([*APPS]))
        template = {
            "cpu": draw(st.integers(1, 4)) * 100,
            "priority": draw(st.integers(0, 1)),
            "labels": {"app": app},
            "affinity_terms": tuple(draw(st.lists(TERMS, max_size=1))) if follow else (),
            "anti_affinity_terms": tuple(draw(st.lists(TERMS, max_size=1))),
            "spread": tuple(draw(st.lists(SPREADS, max_size=2))),
        }
        if draw(st.integers(0, 5)) == 0:
            required = draw(st.sampled_from([(), ("zone",)]))
            template |= {"gang": Gang(f"g{number}", 1, required), "gates": (GANG_GATE,)}
        for one in range(draw(st.integers(1, replicas))):
            name = f"rs{number}-{one}"
            runs = "gang" not in template and draw(st.booleans())
            pods.append(make_pod(name, on=_home(draw, made, pods, template) if runs else None, **template))
    return snapshot(*made, *pods)


def _home(draw: st.DrawFn, nodes: list[Node], pods: list[Pod], template: dict[str, object]) -> str | None:
    """A node with room; mostly, but not always, one that the rules allow."""
    new = make_pod("new-0", **template)
    where = {pod.uid: pod.node for pod in pods if pod.node}
    rules = Rules({node.name: node for node in nodes}, {pod.uid: pod for pod in (*pods, new)})
    careless = draw(st.integers(0, 9)) == 0
    room = {n.name: n.allocatable["cpu"] - sum(p.requests["cpu"] for p in pods if p.node == n.name) for n in nodes}
    fits = [n.name for n in nodes if room[n.name] >= new.requests["cpu"] and (careless or rules.admits(new, n, where))]
    return draw(st.sampled_from([None, *fits]))


class Replay:
    """A plan carried out in a random order that its edges allow; each pod lands as soon as it may."""

    def __init__(self, cluster: Snapshot, packing: Packing) -> None:
        self.nodes = {node.name: node for node in cluster.nodes}
        self.rules = Rules(self.nodes, {pod.uid: pod for pod in cluster.pods})
        self.pods = self.rules.pods
        self.where = {pod.uid: pod.node for pod in cluster.pods if pod.node is not None}
        self.steps = {step.id: step for step in packing.steps}
        self.slots = {slot.id: slot for slot in packing.slots}
        self.gone: set[str] = set()
        self.done: set[str] = set()

    def run(self, chance: random.Random) -> None:
        while len(self.done) < len(self.steps):
            ready = [step for step in self.steps.values() if step.id not in self.done and self.is_ready(step)]
            assert ready, f"nothing can go on: {sorted(self.steps.keys() - self.done)}"
            self.go_on(chance.choice(ready), chance)

    def is_ready(self, step: Step) -> bool:
        if step.id in self.gone:
            return all(other in self.gone or other in self.done for other in self.slots[step.slot or ""].after)
        return all(other in self.done or (self.steps[other].swap and other in self.gone) for other in step.after)

    def go_on(self, step: Step, chance: random.Random) -> None:
        if step.action is Action.EVICT and step.id not in self.gone:
            del self.where[step.pod.uid]
            self.gone.add(step.id)
            if step.slot is None:
                self.done.add(step.id)
            elif not step.swap:
                self.land(step)
            return
        gang = (s for s in self.steps.values() if s.gang and s.gang == step.gang and s.id not in self.done)
        together = list(gang) or [step]
        chance.shuffle(together)
        while together:  # pods of a gang come in any order: who is refused is tried again when another has come
            landing = next((s for s in together if self.admits(s)), together[0])
            together.remove(landing)
            self.land(landing)

    def admits(self, step: Step) -> bool:
        pod, node = self.pods[step.pod.uid], self.nodes[self.slots[step.slot or ""].node]
        return self.rules.admits(pod, node, self.where)

    def land(self, step: Step) -> None:
        target = self.slots[step.slot or ""].node
        assert self.admits(step), f"{step.pod.name} is refused on {target} while {self.where}"
        self.where[step.pod.uid] = target
        self.done.add(step.id)


@settings(max_examples=150)
@given(cluster=clusters(), seed=st.integers(0, 999))
def test_every_pod_lands_where_the_rules_admit_it(cluster: Snapshot, seed: int) -> None:
    packing = packed(cluster, budget=SHORT)
    assert packing.faults == ()
    replay = Replay(cluster, packing)
    replay.run(random.Random(seed))
    assert replay.where == {entry.pod.uid: entry.node for entry in packing.assignments}
    assert gangs_stand_together(replay.rules, replay.where)


@settings(max_examples=80)
@given(cluster=clusters(nodes=3, sets=3, replicas=2, follow=False))
def test_no_better_plan_exists_where_one_is_certified(cluster: Snapshot) -> None:
    packing = packed(cluster, OPTIONS, Budget(deterministic_units=1.0, workers=1))
    best = most_placed(cluster)
    placed, bound = tuple(packing.placed.values()), tuple(packing.bound.values())
    assert placed <= best
    assert not packing.certified or placed == best, f"certified {placed}, but {best} can be placed; bound {bound}"


def most_placed(cluster: Snapshot) -> tuple[int, ...]:
    """The best tiers of all ways to have every pod somewhere or nowhere (final states; gangs whole or not at all)."""
    nodes = {node.name: node for node in cluster.nodes}
    pods = {pod.uid: pod for pod in cluster.pods}
    rules = Rules(nodes, pods)
    start = {uid: pod.node for uid, pod in pods.items() if pod.node}
    broken = {u for u, n in start.items() if not rules.apart(pods[u], nodes[n], start)}  # they never move
    fixed = {uid: node for uid, node in start.items() if uid in broken}
    free = [uid for uid in pods if uid not in fixed]
    priorities = sorted({pod.priority for pod in pods.values()}, reverse=True)
    found: list[tuple[int, ...]] = []
    for choice in product([None, *nodes], repeat=len(free)):
        where = fixed | {uid: node for uid, node in zip(free, choice, strict=True) if node is not None}
        if is_valid(rules, start, where):
            found.append(tuple(sum(pods[uid].priority >= p for uid in where) for p in priorities))
    return max(found)


def is_valid(rules: Rules, start: dict[str, str], where: dict[str, str]) -> bool:
    """Whether everything fits, arrivals are admitted, and gangs are whole."""
    for name, node in rules.nodes.items():
        if sum(rules.pods[uid].requests["cpu"] for uid, at in where.items() if at == name) > node.allocatable["cpu"]:
            return False
    for uid, name in where.items():
        pod, node = rules.pods[uid], rules.nodes[name]
        if start.get(uid) != name and not rules.admits(pod, node, where):
            return False
    if not gangs_stand_together(rules, where):
        return False
    gangs = {(pod.gang.name, pod.uid in where) for pod in rules.pods.values() if pod.gang is not None}
    return len(gangs) == len({name for name, _ in gangs})


def gangs_stand_together(rules: Rules, where: dict[str, str]) -> bool:
    """Whether each gang that asks for one zone has one."""
    zones: dict[str, set[str | None]] = {}
    for uid, name in where.items():
        gang = rules.pods[uid].gang
        if gang is not None and gang.required:
            zones.setdefault(gang.name, set()).add(rules.nodes[name].labels.get("zone"))
    return all(len(found) == 1 and None not in found for found in zones.values())


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        pytest.param({"anti_affinity_terms": (PodAffinityTerm("zone", APPS["red"], ("default",)),)}, True, id="apart"),
        pytest.param({"affinity_terms": (PodAffinityTerm("zone", APPS["red"], ("default",)),)}, False, id="near"),
        pytest.param({}, False, id="no rule"),
    ],
)
def test_the_naive_rules_can_refuse(rules: dict[str, object], refused: bool) -> None:
    here = make_node("a", labels={"zone": "a"})
    stands, comes = make_pod("red-0", on="a", labels={"app": "red"}), make_pod("new-0", **rules)
    naive = Rules({"a": here}, {stands.uid: stands, comes.uid: comes})
    assert naive.admits(comes, here, {stands.uid: "a"}) is not refused
