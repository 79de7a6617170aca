"""Spares take no requests, stand in at once, and cost no request when they change places with replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import hypothesis.strategies as st
from hypothesis import given, settings

from harness.serving_children import NOW, pod, role, service, starting, variant
from stowage.api.model_service import ModelService
from stowage.decide.serving.drain import Change, Fleet, Samples, change
from stowage.decide.serving.service_facts import DeploymentFact, PodFact
from stowage.decide.serving.service_step import Seen, next_step
from stowage.decide.serving.warm_spares import Wish, divide, spares_of

DEADLINE_SECONDS = 60.0
STEP_SECONDS = 5.0
START_STEPS = 4
PASSED = ("take", "spare", "drain")


class Played:
    """A Deployment of one variant: its controller sees patches one step late, and rolls out new templates."""

    def __init__(self) -> None:
        self.now = NOW
        self.replicas = 0
        self.template = "one"
        self.pods: list[PodFact] = []
        self.requests: dict[str, int] = {}
        self.made = 0
        self.lost: list[str] = []

    @property
    def answering(self) -> list[PodFact]:
        return [one for one in self.pods if one.is_ready and one.takes_requests]

    @property
    def ready_spares(self) -> list[PodFact]:
        return [one for one in self.pods if one.is_ready and one.is_spare]

    def step(self, target: int, spares: int, load: int) -> None:
        sampled = {one.ref.name: self.requests[one.ref.name] for one in self.pods if one.is_ready}
        settled = all(one.template == self.template for one in self.pods)
        fleet = Fleet(self.replicas, self.pods, settled, max(0, len(self.answering) - target))
        known = Samples(sampled, dict.fromkeys(sampled, self.now), 60.0)
        found = change(target, fleet, known, deadline_seconds=DEADLINE_SECONDS, now=self.now, spares=spares)
        before = {one.ref.name: one.deletion_cost or 0 for one in self.pods}
        self.pods = [self._patched(one, found) for one in self.pods]
        self.replicas = found.replicas
        self._control(before)
        self.now += STEP_SECONDS
        for number, one in enumerate(self.pods):
            if not one.is_ready and self.now - one.created_at >= START_STEPS * STEP_SECONDS:
                self.pods[number] = replace(one, is_ready=True)
            name, serves = one.ref.name, one.takes_requests and self.pods[number].is_ready
            self.requests[name] = load if serves else max(0, self.requests[name] - 2)

    def _patched(self, one: PodFact, found: Change) -> PodFact:
        if one.ref in found.drain:
            one = replace(one, takes_requests=False, draining_since=self.now)
        if one.ref in found.undrain:
            one = replace(one, takes_requests=True, draining_since=None)
        if one.ref in found.unspare:
            one = replace(one, is_spare=False)
        if one.ref in found.spare:
            one = replace(one, takes_requests=False, is_spare=True, draining_since=None)
        return replace(one, deletion_cost=found.cost.get(one.ref, one.deletion_cost) or None)

    def _control(self, cost: Mapping[str, int]) -> None:
        fresh = [one for one in self.pods if one.template == self.template]
        stale = [one for one in self.pods if one.template != self.template]
        if stale:
            beyond = len(self.pods) - self.replicas
            ready = sum(one.is_ready for one in self.pods)
            doomed, among = max(0, min(beyond, ready - self.replicas)), stale
            more = self.replicas + 1 - len(self.pods)
        else:
            doomed, among = max(0, len(fresh) - self.replicas), fresh
            more = self.replicas - len(fresh)

        def rank(one: PodFact) -> tuple[object, ...]:  # where all is equal anybody goes: who leaves by ours too
            return one.node is not None, one.is_ready, cost[one.ref.name], -one.created_at, one.ref.name

        ranked = sorted(among, key=rank)
        for one in ranked[:doomed]:
            since = one.draining_since if one.draining_since is not None else self.now
            if one.is_ready and self.requests[one.ref.name] and self.now - since < DEADLINE_SECONDS:
                self.lost.append(one.ref.name)
            self.pods.remove(one)
        for _ in range(more):
            self.made += 1
            self.pods.append(starting(self.made, created_at=self.now, template=self.template))
            self.requests[self.pods[-1].ref.name] = 0


ASKED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=25)


@settings(max_examples=60)
@given(ASKED)
def test_whatever_is_asked_for_spares_take_nothing_and_no_request_is_lost(asked: list[tuple[int, int, int]]) -> None:
    played = Played()
    for target, spares, load in asked:
        answering, warm = len(played.answering), len(played.ready_spares)
        played.step(target, spares, load)
        assert sum(one.takes_requests for one in played.pods) >= min(target, len(played.pods))
        assert len(played.answering) >= min(target, answering + warm), "a spare that is ready serves at once"
        assert all(not one.takes_requests for one in played.pods if one.is_spare)
    target, spares, load = asked[-1]
    for _ in range(40):
        played.step(target, spares, load)
    assert not played.lost
    assert len(played.pods) == played.replicas == target + spares
    assert len(played.answering) == target
    assert len(played.ready_spares) == spares
    assert {one.deletion_cost for one in played.pods if one.takes_requests} <= {None}


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 7))
def test_a_roll_out_takes_spares_whose_requests_have_ended(target: int, spares: int, load: int) -> None:
    played = Played()
    for _ in range(12):
        played.step(target, spares, load)
    played.template = "two"
    for _ in range(12 * (target + spares)):
        played.step(target, spares, load)
        assert len(played.answering) >= target, "none stops before another one answers"
    assert {one.template for one in played.pods} == {"two"}
    assert not played.lost, "what a roll-out takes has been a spare before, and has ended its requests"
    assert (len(played.answering), len(played.ready_spares)) == (target, spares)


@st.composite
def pods_of_all_kinds(draw: st.DrawFn) -> list[PodFact]:
    found = []
    for number in range(draw(st.integers(0, 7))):
        kind = draw(st.sampled_from(PASSED))
        make = pod if draw(st.booleans()) else starting
        found.append(make(number, takes_requests=kind == "take", is_spare=kind == "spare"))
    return found


@given(pods_of_all_kinds(), st.integers(0, 5), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3)))
def test_who_answers_serves_before_who_does_not(
    pods: list[PodFact], target: int, spares: int, may_stop: int | None
) -> None:
    found = divide(pods, target, spares, may_stop)
    assert len(found.serve) == min(target, len(pods))
    assert len(found.spare) <= spares
    assert not {one.ref for one in found.serve} & {one.ref for one in found.spare}
    ready = sum(one.is_ready for one in pods)
    assert sum(one.is_ready for one in found.serve) == min(target, ready)
    stops = sum(one.is_ready and one.takes_requests for one in found.spare)
    assert may_stop is None or stops <= may_stop
    if may_stop is None:
        assert len(found.spare) == min(spares, max(0, len(pods) - target))


def used_with(count: int, spares: int) -> Mapping[str, float]:
    return {"gpus": 2.0 * (count + spares)}


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(1, 10)), min_size=1, max_size=3),
    st.integers(1, 80),
)
def test_a_budget_cuts_spares_before_replicas_and_never_asks_for_more(
    asked: list[tuple[int, int, int]], limit: int
) -> None:
    roles = [role(f"r{number}", most=most) | {"warm": {"pods": warm}} for number, (_, warm, most) in enumerate(asked)]
    of = service(*roles)
    counts = [min(count, most) for count, _, most in asked]

    def kept_of(one: ModelService) -> dict[str, int]:
        wishes = [
            Wish(spec, count, lambda many: {"default": many}, partial(used_with, count))
            for spec, count in zip(one.spec.roles, counts, strict=True)
        ]
        return {name: sum(found.values()) for name, found in spares_of(one, wishes).items()}

    free = kept_of(of)
    kept = kept_of(service(*roles, scaling={"budget": {"gpus": limit}}))
    for one, count, (_, warm, most) in zip(of.spec.roles, counts, asked, strict=True):
        assert 0 <= kept[one.name] <= free[one.name] <= warm
        assert count + kept[one.name] <= most
    used = 2 * (sum(counts) + sum(kept.values()))
    assert used <= max(limit, 2 * sum(counts)), "replicas are paid for before"
    if any(kept[name] < free[name] for name in free):
        assert used + 2 > limit


def of_two(count: int, warm: int, stocks: tuple[int, int]) -> ModelService:
    variants = [variant("cheap", costPerHour="1", max=stocks[0]), variant("dear", costPerHour="4", max=stocks[1])]
    return service(role(most=16, variants=variants) | {"warm": {"pods": warm}}, replicas=count)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=6),
    st.integers(0, 3),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_over_variants_a_rise_within_the_spares_asks_for_no_other_replica_first(
    counts: list[int], warm: int, stocks: tuple[int, int]
) -> None:
    status, deployments = None, dict[str, DeploymentFact]()
    before: dict[str, int] = {}
    for number, count in enumerate(counts):
        of = of_two(count, warm, stocks)
        if status is not None:
            of = of.model_copy(update={"status": status})
        step = next_step(Seen(of, (), deployments, {}, {}, NOW + number))
        status = step.status
        told = {one.name: one for one in status.roles[0].variants}
        fleet = {name: one.desired + one.spare for name, one in told.items()}
        assert sum(one.desired for one in told.values()) == min(count, sum(stocks))
        assert sum(one.spare for one in told.values()) == (
            min(warm, sum(stocks) - min(count, sum(stocks))) if count else 0
        )
        if sum(before.values()) >= count:
            assert all(one.desired <= before.get(name, 0) for name, one in told.items()), "who serves was there already"
        before = fleet
        deployments = {
            f"llama-unified-{name}": DeploymentFact(f"llama-unified-{name}", f"uid-{name}", replicas)
            for name, replicas in fleet.items()
        }
