"""Soft rules: one pod lands where kube-scheduler scores best, and several as well as shifts and exchanges can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, node, pod, snapshot
from harness.naive_scores import company_score, image_score, spread_score
from property.test_between_pods import APPS, KEYS, TERMS, clusters
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import (
    Effect,
    LabelSelector,
    Node,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
    Taint,
    WeightedPodTerm,
)
from stowage_scheduler.greedy import greedy
from stowage_scheduler.images import image_list
from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.soft_rules import soft_rules
from stowage_scheduler.solve.arrange import arranged, arriving
from stowage_scheduler.solve.wishes import SoftRules, Wishes

WEIGHTS = st.sampled_from([-100, -30, -1, 1, 20, 100])
SELECTORS = st.sampled_from([*APPS.values(), LabelSelector()])
PREFERRED = st.builds(
    WeightedPodTerm,
    WEIGHTS,
    st.builds(
        PodAffinityTerm,
        KEYS,
        SELECTORS,
        st.sampled_from([("default",), ("other",), ()]),
        st.sampled_from([None, LabelSelector(), LabelSelector((("team", "x"),))]),
    ),
)
WISHED = st.builds(SpreadConstraint, KEYS, st.integers(1, 3), SELECTORS, st.just(1), st.booleans(), st.booleans())
ONE, ALIAS, TWO, NONE = 1, 2, -3, 0
IMAGES = st.lists(
    st.sampled_from([((ONE, 300 * 2**20), (ALIAS, 300 * 2**20)), ((TWO, 900 * 2**20),)]), unique=True
).map(lambda held: image_list(pair for pairs in held for pair in pairs))
MOST_WAYS = 2_000
NAMESPACES = {"other": {"team": "x"}, "default": {"team": "y"}}


@st.composite
def scenes(draw: st.DrawFn, rules: st.SearchStrategy[dict[str, object]], *, needs: bool = False) -> Snapshot:
    """Pods that stand anywhere (with `needs` some need others), and one that waits; room is no matter."""
    nodes = [
        node(
            f"n{number}",
            labels={"host": f"n{number}", "disk": draw(st.sampled_from("sh"))}
            | draw(st.sampled_from([{"zone": "a"}, {"zone": "b"}, {}])),
            images=draw(IMAGES),
        )
        for number in range(draw(st.integers(2, 5)))
    ]
    standing = [
        pod(
            f"old{number}-0",
            1,
            on=draw(st.sampled_from(nodes)).name,
            namespace=draw(st.sampled_from(["default", "other"])),
            labels={"app": draw(st.sampled_from([*APPS]))},
            terminating=draw(st.booleans()),
            affinity_terms=tuple(draw(st.lists(TERMS, max_size=1))) if needs else (),
            **draw(rules),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    new = pod("new-0", 1, labels={"app": draw(st.sampled_from([*APPS]))}, **draw(rules))
    return snapshot(*nodes, *standing, new, namespace_labels=NAMESPACES)


def landing(cluster: Snapshot) -> tuple[Build, Placement, SoftRules]:
    made = build(cluster, OPTIONS)
    start = greedy(made.problem)
    return made, start, soft_rules(made, cluster, arriving(start))


def best_by(cluster: Snapshot, score: Callable[[Pod, Node], float]) -> None:
    """The pod that waits lands where its score is best."""
    made, start, rules = landing(cluster)
    end = arranged(start, Tail.SPREAD, rules)
    new = next(one for one in cluster.pods if one.name == "new-0")
    (place,) = next(end.counts[c.index] for c in made.problem.classes if c.pending)
    where = {one.name: one for one in cluster.nodes}
    scores = {name: score(new, where[name]) for name in made.problem.nodes}
    assert scores[made.problem.nodes[place]] == max(scores.values())


def standing(cluster: Snapshot) -> list[tuple[Pod, Node]]:
    where = {one.name: one for one in cluster.nodes}
    return [(one, where[one.node]) for one in cluster.pods if one.node is not None]


@settings(max_examples=150)
@given(
    cluster=scenes(st.fixed_dictionaries({"preferred_pods": st.lists(PREFERRED, max_size=2).map(tuple)}), needs=True)
)
def test_one_pod_lands_where_inter_pod_affinity_scores_best(cluster: Snapshot) -> None:
    best_by(cluster, lambda new, one: company_score(new, one, standing(cluster), NAMESPACES))


@settings(max_examples=150)
@given(
    cluster=scenes(
        st.fixed_dictionaries(
            {
                "preferred_spread": st.lists(WISHED, min_size=1, max_size=1).map(tuple),
                "node_selector": st.sampled_from([{}, {"disk": "s"}]),
            }
        )
    )
)
def test_one_pod_lands_where_topology_spread_scores_best(cluster: Snapshot) -> None:
    new = next(one for one in cluster.pods if one.name == "new-0")
    # of pods that have the same wish, ours counts both sides of each pair; where only some have it, the two differ
    alike = [one for one in cluster.pods if one.preferred_spread == new.preferred_spread or one.node is None]
    others = [replace(one, preferred_spread=()) for one in cluster.pods if one not in alike]
    assume(all(one.node_selector == new.node_selector and one.labels == new.labels for one in alike))
    cluster = replace(cluster, pods=(*alike, *others))
    open_to_it = [n for n in cluster.nodes if new.node_selector.items() <= n.labels.items()]
    assume(open_to_it)

    def score(pod: Pod, one: Node) -> float:
        return -spread_score(pod, one, cluster.nodes, standing(cluster)) if one in open_to_it else float("-inf")

    best_by(cluster, score)


@settings(max_examples=100)
@given(
    cluster=scenes(
        st.fixed_dictionaries({"images": st.lists(st.sampled_from([ONE, TWO, ALIAS, NONE]), max_size=3).map(tuple)})
    )
)
def test_one_pod_lands_where_image_locality_scores_best(cluster: Snapshot) -> None:
    assume(any(next(one for one in cluster.pods if one.name == "new-0").images))
    best_by(cluster, lambda new, one: image_score(new, one, cluster.nodes))


@st.composite
def soft_clusters(draw: st.DrawFn) -> Snapshot:
    """A few pods that come to full nodes, with hard and soft rules."""
    cluster = draw(clusters(nodes=4, sets=4, replicas=2))
    owners = sorted({one.owner.name for one in cluster.pods if one.owner is not None})
    soft = {
        owner: {
            "preferred_pods": tuple(draw(st.lists(PREFERRED, max_size=2))),
            "preferred_spread": tuple(draw(st.lists(WISHED, max_size=1))),
            "images": tuple(draw(st.lists(st.sampled_from([ONE, TWO]), max_size=1))),
        }
        for owner in owners
    }
    pods = tuple(replace(one, **soft[one.owner.name if one.owner else ""]) for one in cluster.pods)
    nodes = tuple(
        replace(
            one,
            images=draw(IMAGES),
            taints=draw(st.sampled_from([(), (), (Taint("busy", Effect.PREFER_NO_SCHEDULE),)])),
        )
        for one in cluster.nodes
    )
    return replace(cluster, pods=pods, nodes=nodes, namespace_labels=NAMESPACES)


def price(placement: Placement, rules: SoftRules) -> int:
    """What all soft rules cost, pair by pair."""
    problem = placement.problem
    stand = [(c, n) for c in problem.classes for n, count in placement.counts[c.index].items() for _ in range(count)]
    found = 0
    for one, here in stand:
        if one.index in arriving(placement):
            found += 1000 * one.dislikes.get(here, 0)
        if one.index in rules.nodes:
            found += int(rules.nodes[one.index][here])
    for wish in rules.wishes:
        having = [int(wish.domain_of[n]) for c, n in stand if c.index in wish.having]
        counted = [int(wish.domain_of[n]) for c, n in stand if c.index in wish.counted]
        for domain in range(len(wish.standing_having) - 1):
            has = having.count(domain) + int(wish.standing_having[domain])
            counts = counted.count(domain) + int(wish.standing_counted[domain])
            self_met = sum(c.index in wish.having & wish.counted and int(wish.domain_of[n]) == domain for c, n in stand)
            found += wish.cost * (has * counts - self_met)
    return found


def ways(placement: Placement) -> Iterator[Placement]:
    """Every placement with the same pods placed and the same moves, that differs in where the arrivals land."""
    problem = placement.problem
    coming = [
        (problem.classes[index], node)
        for index in arriving(placement)
        for node, count in placement.counts[index].items()
        for _ in range(count - problem.classes[index].running.get(node, 0))
    ]
    base = placement.copy()
    for pod_class, node_index in coming:
        base.add(pod_class, node_index, -1)
    for targets in product(*(sorted(pod_class.eligible) for pod_class, _ in coming)):
        twin = base.copy()
        for (pod_class, _), target in zip(coming, targets, strict=True):
            twin.add(pod_class, target, 1)
        if _is_allowed(twin) and twin.score() >= placement.score():
            yield twin


def _is_allowed(placement: Placement) -> bool:
    if any(left < 0 for room in placement.room for left in room) or not placement.within_limits():
        return False
    return all(
        count <= pod_class.limit(node) or count <= pod_class.running.get(node, 0)
        for pod_class in placement.problem.classes
        for node, count in placement.counts[pod_class.index].items()
    )


@settings(max_examples=80)
@given(cluster=soft_clusters(), tail=st.sampled_from(Tail))
def test_no_plan_is_worse_off_and_hard_rules_hold(cluster: Snapshot, tail: Tail) -> None:
    _, start, rules = landing(cluster)
    end = arranged(start, tail, rules)
    assert end.score() >= start.score()
    assert end.within_limits()
    assert all(left >= 0 for room in end.room for left in room)
    if end.score() == start.score():
        assert price(end, rules) <= price(start, rules)


@settings(max_examples=80)
@given(cluster=soft_clusters())
def test_costs_are_differences_of_the_whole(cluster: Snapshot) -> None:
    made, start, rules = landing(cluster)
    wishes = Wishes(start, rules)
    for index in arriving(start):
        pod_class = made.problem.classes[index]
        source = next(n for n, count in start.counts[index].items() if count > pod_class.running.get(n, 0))
        wishes.add(pod_class, source, -1)
        for target in range(len(made.problem.nodes)):
            twin = start.copy()
            twin.add(pod_class, source, -1)
            twin.add(pod_class, target, 1)
            if index in arriving(twin):
                change = wishes.cost(pod_class, target) - wishes.cost(pod_class, source)
                assert price(twin, rules) - price(start, rules) == change
            assert wishes.cost(pod_class, target) == wishes.costs(pod_class)[target]
        wishes.add(pod_class, source, 1)


@settings(max_examples=80)
@given(cluster=soft_clusters(), tail=st.sampled_from(Tail))
def test_no_single_shift_and_no_exchange_suits_better(cluster: Snapshot, tail: Tail) -> None:
    """Of all plans that trying every way finds; those further away may be better, which is what local optimum means."""
    free = tuple(replace(one, affinity_terms=(), anti_affinity_terms=(), spread=()) for one in cluster.pods)
    _, start, rules = landing(replace(cluster, pods=free))
    end = arranged(start, tail, rules)
    reached = price(end, rules)
    for way in islice(ways(end), MOST_WAYS):
        if way.score() == end.score() and _is_near(end, way):
            assert price(way, rules) >= reached


def _is_near(one: Placement, other: Placement) -> bool:
    """Whether two placements differ in where one pod stands, or in two that have changed places."""
    left: list[tuple[int, int]] = []
    came: list[tuple[int, int]] = []
    for index, (here, there) in enumerate(zip(one.counts, other.counts, strict=True)):
        for where in {*here, *there}:
            change = there.get(where, 0) - here.get(where, 0)
            (left if change < 0 else came).extend([(index, where)] * abs(change))
    if len(left) == len(came) == 1:
        return left[0][0] == came[0][0]
    return (
        len(left) == 2
        and left[0][0] != left[1][0]
        and set(came)
        == {
            (left[0][0], left[1][1]),
            (left[1][0], left[0][1]),
        }
    )
