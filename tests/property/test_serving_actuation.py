"""Splits are exact and change least; replicas that leave lose no request, whatever the load does meanwhile."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings

from harness.serving_children import NOW, pod, starting
from stowage.decide.serving.drain import Fleet, Samples, change
from stowage.decide.serving.service_facts import PodFact, PodRef
from stowage.decide.serving.spend import Claim, paid_for
from stowage.decide.serving.split import VariantShare, cheapest_first, split

DEADLINE_SECONDS = 60.0
STEP_SECONDS = 5.0


@st.composite
def shares(draw: st.DrawFn) -> list[VariantShare]:
    priced = draw(st.booleans())
    return [
        VariantShare(
            f"v{number}",
            draw(st.integers(1, 5)) / 2 if priced else None,
            draw(st.integers(1, 4)) / 2,
            draw(st.integers(0, 8)),
            draw(st.integers(0, 8)),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@given(st.integers(0, 40), shares())
def test_a_split_is_exact_within_bounds_and_changes_least(count: int, variants: list[VariantShare]) -> None:
    found = split(count, variants)
    most = sum(one.most for one in variants)
    kept = {one.name: min(one.current, one.most) for one in variants}
    assert sum(found.values()) == min(count, most)
    assert all(0 <= found[one.name] <= one.most for one in variants)
    forced = sum(one.current - kept[one.name] for one in variants)
    moved = sum(abs(found[one.name] - one.current) for one in variants)
    assert moved == forced + abs(min(count, most) - sum(kept.values()))


@given(st.integers(0, 40), shares())
def test_what_comes_is_the_cheapest_and_what_goes_the_dearest(count: int, variants: list[VariantShare]) -> None:
    found, order = split(count, variants), cheapest_first(variants)
    kept = {one.name: min(one.current, one.most) for one in variants}
    for number, one in enumerate(order):
        for dearer in order[number + 1 :]:
            if found[dearer.name] > kept[dearer.name]:
                assert found[one.name] == one.most
            if found[one.name] < kept[one.name]:
                assert found[dearer.name] == 0


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_a_budget_is_kept_unless_the_leasts_alone_are_above_it(roles: list[tuple[int, int, int]], limit: int) -> None:
    def claim(number: int, least: int, count: int, price: int) -> Claim:
        return Claim(f"r{number}", least, count, lambda many: {"gpus": float(many * price)})

    claims = [claim(number, *one) for number, one in enumerate(roles)]
    paid = paid_for(claims, {"gpus": float(limit)})
    spent = sum(one.spend(paid[one.role])["gpus"] for one in claims)
    floor = sum(one.spend(min(one.least, one.count))["gpus"] for one in claims)
    assert all(min(one.least, one.count) <= paid[one.role] <= one.count for one in claims)
    assert spent <= max(float(limit), floor)
    for one in claims:
        if paid[one.role] < one.count:
            assert spent - one.spend(paid[one.role])["gpus"] + one.spend(paid[one.role] + 1)["gpus"] > limit


class Cluster:
    """A Deployment whose controller chooses as that of ReplicaSets does, and replicas that end their requests.

    The controller sees pods as they were before they were last patched: its cache is another one.
    """

    def __init__(self) -> None:
        self.now = NOW
        self.replicas = 0
        self.pods: list[PodFact] = []
        self.requests: dict[str, int] = {}
        self.made = 0
        self.lost: list[str] = []

    def step(self, target: int, load: int) -> None:
        sampled = {one.ref.name: self.requests[one.ref.name] for one in self.pods if one.is_ready}
        known = Samples(sampled, dict.fromkeys(sampled, self.now), 60.0)
        fleet = Fleet(self.replicas, self.pods)
        found = change(target, fleet, known, deadline_seconds=DEADLINE_SECONDS, now=self.now)
        self.replicas = found.replicas
        before = {one.ref: one.deletion_cost or 0 for one in self.pods}
        self._patch(found.drain, found.undrain, dict(found.cost))
        self._control(before)
        self.now += STEP_SECONDS
        self._serve(load)

    def _patch(self, drain: tuple[PodRef, ...], undrain: tuple[PodRef, ...], cost: dict[PodRef, int]) -> None:
        for number, one in enumerate(self.pods):
            if one.ref in drain:
                self.pods[number] = replace(one, takes_requests=False, draining_since=self.now)
            elif one.ref in undrain:
                self.pods[number] = replace(one, takes_requests=True, draining_since=None)
            if one.ref in cost:
                self.pods[number] = replace(self.pods[number], deletion_cost=cost[one.ref] or None)

    def _control(self, cost: dict[PodRef, int]) -> None:
        ranked = sorted(self.pods, key=lambda one: (one.node is not None, one.is_ready, cost[one.ref]))
        for one in ranked[: max(0, len(self.pods) - self.replicas)]:
            since = one.draining_since if one.draining_since is not None else self.now
            if one.is_ready and self.requests[one.ref.name] and self.now - since < DEADLINE_SECONDS:
                self.lost.append(one.ref.name)
            self.pods.remove(one)
        while len(self.pods) < self.replicas:
            self.made += 1
            self.pods.append(starting(self.made, created_at=self.now))
            self.requests[self.pods[-1].ref.name] = 0

    def _serve(self, load: int) -> None:
        for number, one in enumerate(self.pods):
            if not one.is_ready and self.now - one.created_at >= 4 * STEP_SECONDS:
                self.pods[number] = replace(one, is_ready=True)
            name = one.ref.name
            self.requests[name] = load if one.takes_requests and one.is_ready else max(0, self.requests[name] - 2)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=30))
def test_whatever_is_asked_for_no_request_is_lost_and_the_count_is_reached(asked: list[tuple[int, int]]) -> None:
    cluster = Cluster()
    for target, load in asked:
        cluster.step(target, load)
        serving = sum(one.takes_requests for one in cluster.pods)
        assert serving == target, "as many as shall take requests do at once, those that start included"
    target, load = asked[-1]
    for _ in range(30):
        cluster.step(target, load)
    assert not cluster.lost
    assert len(cluster.pods) == target == cluster.replicas
    assert all(one.takes_requests and one.deletion_cost is None for one in cluster.pods)


@given(st.permutations([pod(number, created_at=NOW - number) for number in range(5)]), st.integers(0, 5))
def test_the_order_in_which_pods_are_listed_does_not_matter(pods: list[PodFact], target: int) -> None:
    known = Samples({}, {}, 60.0)

    def found(those: list[PodFact]) -> object:
        return change(target, Fleet(5, those), known, deadline_seconds=60.0, now=NOW)

    assert found(pods) == found(sorted(pods, key=lambda one: one.ref))
