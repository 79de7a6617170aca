"""A whole service in a played cluster: by hand, with stocks that are too small, its count is reached and then rests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from harness.serving_children import NOW, pod, role, service, variant
from stowage.api.model_service import ModelService
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.role_mix import MixAnswer, MixOutcome, Part
from stowage.decide.serving.role_prospect import prospect, states_of
from stowage.decide.serving.service_facts import (
    OUT_OF_STOCK_UNTIL_ANNOTATION,
    DeploymentFact,
    PodFact,
    PodRef,
    seconds_of,
)
from stowage.decide.serving.service_step import Document, Seen, ServiceStep, next_step

STEP_SECONDS = 15.0
STARTS_SECONDS = 40.0
LONG_STEPS = 60
"""So many steps are longer than any wait: drains, pods without a node, variants that are out of stock."""


class World:
    """Controllers and kube-scheduler for one role; a variant has so many nodes, a replica takes a whole one."""

    def __init__(self, stocks: dict[str, int]) -> None:
        self.stocks = stocks
        self.now = NOW
        self.deployments: dict[str, DeploymentFact] = {}
        self.pods: dict[PodRef, PodFact] = {}
        self.made = 0
        self.memories: dict[str, RoleMemory] = {}
        self.profiles: dict[str, Performance] = {}
        self.mixes: dict[str, MixAnswer] = {}

    def look(self, of: ModelService) -> tuple[ModelService, ServiceStep]:
        """One step of the operator, all of it carried out, and what follows in the cluster."""
        step = next_step(
            Seen(
                of,
                tuple(self.pods.values()),
                dict(self.deployments),
                {},
                self.profiles,
                self.now,
                memories=self.memories,
                mixes=self.mixes,
            )
        )
        self.mixes = {}
        self.memories = dict(step.memories)
        for ref, patch in pod_patches(step, self.now).items():
            self._patch(ref, patch["metadata"])
        for document in step.apply:
            if document["kind"] == "Deployment":
                self._apply(document)
        for child in step.delete:
            del self.deployments[child.name]
            gone = child.name.removeprefix("llama-unified-")
            self.pods = {ref: one for ref, one in self.pods.items() if one.variant != gone}
        self._control()
        self.now += STEP_SECONDS
        return of.model_copy(update={"status": step.status}), step

    def _patch(self, ref: PodRef, metadata: Document) -> None:
        one = self.pods[ref]
        labels, annotations = metadata["labels"], metadata["annotations"]
        changes: dict[str, Any] = {}
        if "stowage.dev/takes-requests" in labels:
            changes["takes_requests"] = labels["stowage.dev/takes-requests"] == "true"
        if "stowage.dev/spare" in labels:
            changes["is_spare"] = labels["stowage.dev/spare"] == "true"
        if "stowage.dev/draining-since" in annotations:
            changes["draining_since"] = seconds_of(annotations["stowage.dev/draining-since"])
        if "stowage.dev/leaving-cost" in annotations:
            cost = annotations["stowage.dev/leaving-cost"]
            changes["deletion_cost"] = None if cost is None else int(cost)
        self.pods[ref] = replace(one, **changes)

    def _apply(self, document: Document) -> None:
        name = document["metadata"]["name"]
        until = document["metadata"].get("annotations", {}).get(OUT_OF_STOCK_UNTIL_ANNOTATION)
        known = {OUT_OF_STOCK_UNTIL_ANNOTATION: until} if until is not None else {}
        self.deployments[name] = DeploymentFact(name, f"uid-{name}", document["spec"]["replicas"], annotations=known)

    def _control(self) -> None:
        for name, fact in self.deployments.items():
            kind = name.removeprefix("llama-unified-")
            own = [one for one in self.pods.values() if one.variant == kind]
            ranked = sorted(own, key=lambda one: (one.node is not None, one.is_ready, one.deletion_cost or 0))
            for one in ranked[: max(0, len(own) - fact.replicas)]:
                del self.pods[one.ref]
            for _ in range(fact.replicas - len(own)):
                self._make(kind)
            self._place(kind)

    def _make(self, kind: str) -> None:
        self.made += 1
        one = pod(
            self.made, variant=kind, created_at=self.now, node=None, phase="Pending", is_ready=False, ready_at=None,
            scheduled_at=None,
        )  # fmt: skip
        self.pods[one.ref] = one

    def _place(self, kind: str) -> None:
        own = [one for one in self.pods.values() if one.variant == kind]
        room = self.stocks[kind] - sum(one.node is not None for one in own)
        for one in own:
            if one.node is None and room > 0:
                room -= 1
                known = replace(one, node=f"n-{one.ref.name}", phase="Running", scheduled_at=self.now)
                self.pods[one.ref] = replace(known, unschedulable_since=None)
            elif one.node is None:
                self.pods[one.ref] = replace(one, unschedulable_since=one.unschedulable_since or self.now)
            elif not one.is_ready and self.now - (one.scheduled_at or 0.0) >= STARTS_SECONDS:
                self.pods[one.ref] = replace(one, is_ready=True, ready_at=self.now)


def asking_for(of: ModelService, replicas: int) -> ModelService:
    return of.model_copy(update={"spec": of.spec.model_copy(update={"replicas": replicas})})


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 25)), min_size=1, max_size=6),
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_a_count_by_hand_is_reached_as_far_as_nodes_allow_and_rests(
    asked: list[tuple[int, int]], stocks: tuple[int, int]
) -> None:
    world = World({"cheap": stocks[0], "dear": stocks[1]})
    of = service(
        role(most=8, variants=[variant("cheap", costPerHour="1"), variant("dear", costPerHour="4")]),
        scaling={"scaleDown": {"drainDeadline": "60s"}},
    )
    for count, steps in asked:
        of = asking_for(of, count)
        for _ in range(steps):
            of, step = world.look(of)
            serving = sum(one.takes_requests for one in world.pods.values())
            assert serving == count, "pods that are asked for and do not leave"
    for _ in range(LONG_STEPS):
        of, step = world.look(of)
    count = asked[-1][0]
    if sum(stocks) < count:
        return  # variants are tried in turn, as long as nobody has room
    before = set(world.pods)
    assert len(before) == count
    assert all(one.is_ready and one.takes_requests for one in world.pods.values())
    for _ in range(LONG_STEPS):
        of, step = world.look(of)
        assert set(world.pods) == before, "nothing comes and goes once the count is there"
        assert not {*step.drain, *step.undrain, *step.cost}
    assert of.status.roles[0].desired == of.status.roles[0].ready == count


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4))
def test_a_variant_that_is_replaced_leaves_as_fast_as_the_other_one_answers(count: int, more: int) -> None:
    def of_variant(name: str, status: ModelService | None = None) -> ModelService:
        fresh = service(role(most=8, variants=[variant(name)]), scaling={"scaleDown": {"drainDeadline": "60s"}})
        fresh = asking_for(fresh, count)
        return fresh if status is None else fresh.model_copy(update={"status": status.status})

    world = World({"cheap": count, "dear": count + more})
    of = of_variant("cheap")
    for _ in range(10):
        of, _ = world.look(of)
    of = of_variant("dear", of)
    for _ in range(40):
        of, _ = world.look(of)
        assert sum(one.is_ready and one.takes_requests for one in world.pods.values()) >= count
    assert {one.variant for one in world.pods.values()} == {"dear"}
    assert len(world.pods) == count
    assert set(world.deployments) == {"llama-unified-dear"}


QUICK = Performance(line(0.01, 0.00003), line(0.01, 0.0001), kv_capacity_tokens=400_000)
SLOW = Performance(line(0.02, 0.0001), line(0.025, 0.0003), kv_capacity_tokens=100_000)


def both(warm: int, budget: int, **status: Any) -> ModelService:
    variants = [variant("slow", costPerHour="1", profile="slow"), variant("quick", costPerHour="4", profile="quick")]
    return service(
        role(most=40, variants=variants) | {"warm": {"pods": warm}},
        scaling={"scaleDown": {"drainDeadline": "60s"}, "budget": {"gpus": budget}},
        slo={"timeToFirstToken": "2s", "interTokenLatency": "100ms"},
        **status,
    )


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 6),
    towards=st.sampled_from(["slow", "quick"]),
    lacking=st.integers(0, 2),
    warm=st.integers(0, 2),
    paid=st.integers(0, 2),
)
def test_another_mix_takes_over_without_a_moment_of_too_little(
    count: int, towards: str, lacking: int, warm: int, paid: int
) -> None:
    """Without signals, so that nothing but the mix asks for anything; where nodes are lacking, what is there stays."""
    begins = "quick" if towards == "slow" else "slow"
    of = both(warm, 1)
    (spec,) = of.spec.roles
    bears = prospect(
        of.spec, spec, states_of(of, spec, (), {}), {"slow": SLOW, "quick": QUICK}, RoleMemory()
    ).capacities
    needed = -(-count * bears[begins] // bears[towards])
    world = World({begins: count + warm, towards: max(0, int(needed) - lacking) + (0 if lacking else warm)})
    world.profiles = {"slow": SLOW, "quick": QUICK}
    status = {"name": "unified", "desired": count, "variants": [{"name": begins, "desired": count, "spare": warm}]}
    budget = 2 * (count + int(needed) + paid)
    of = both(warm, budget, status={"roles": [status]})
    name = f"llama-unified-{begins}"
    world.deployments[name] = DeploymentFact(name, f"uid-{name}", count + warm)
    pods = [pod(number, variant=begins) for number in range(count)]
    pods += [pod(count + one, variant=begins, takes_requests=False, is_spare=True) for one in range(warm)]
    world.pods = {one.ref: one for one in pods}
    world.made = count + warm
    parts = (Part(towards, int(needed), bears[towards]), Part(begins, 0, bears[begins]))
    world.mixes = {"unified": MixAnswer(MixOutcome.CHOSEN, parts)}
    for _ in range(60):
        of, _ = world.look(of)
        serving = [one.variant for one in world.pods.values() if one.is_ready and one.takes_requests]
        if begins in serving and begins == "quick":
            assert serving.count("quick") >= count, "old ones bear all until the last new one is there"
        else:
            assert len(serving) * min(bears[name] for name in serving) >= count * bears[begins] - 1e-6
        told = of.status.roles[0].variants
        assert sum(one.spare for one in told) <= warm, "what a switch has twice is no spare"
        assert 2 * sum(one.desired + one.spare for one in told) <= budget
    kinds = [one.variant for one in world.pods.values() if not one.is_spare]
    assert len(kinds) == (count if lacking else needed)
    assert kinds.count(towards) <= world.stocks[towards] if lacking else set(kinds) == {towards}
    assert all(one.is_ready for one in world.pods.values())
    spares = [one.variant for one in world.pods.values() if one.is_spare]
    assert spares == [begins if lacking else towards] * warm, "no spare of a variant that the role left"
    mix = of.status.roles[0].mix
    assert mix is not None
    assert mix.reason == ("MixSwitchFailed" if lacking else "MixInForce")


STORY = st.one_of(
    st.tuples(st.just("mix"), st.integers(0, 1)),
    st.tuples(st.just("warm"), st.integers(0, 2)),
    st.tuples(st.just("by hand"), st.integers(0, 5)),
    st.tuples(st.just("paused"), st.integers(0, 1)),
    st.tuples(st.just("lost"), st.integers(0, 9)),
    st.tuples(st.just("forgotten"), st.just(0)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(STORY, st.integers(1, 9)), min_size=1, max_size=8))
def test_whatever_is_asked_in_whatever_order_it_ends_as_asked_and_rests(
    story: list[tuple[tuple[str, int], int]],
) -> None:
    """Mixes, spares, numbers by hand, pauses, nodes that are lost and operators that begin anew, with nodes enough."""
    world, warm, by_hand, paused = World({"slow": 90, "quick": 90}), 1, 0, 0
    world.profiles = {"slow": SLOW, "quick": QUICK}
    of = both(warm, 400)
    bears = prospect(
        of.spec, of.spec.roles[0], states_of(of, of.spec.roles[0], (), {}), world.profiles, RoleMemory()
    ).capacities
    for (what, number), steps in [(("warm", warm), 5), *story, (("paused", 0), LONG_STEPS)]:
        if what == "mix" and of.status.roles and not by_hand:
            towards, other = ("slow", "quick") if number else ("quick", "slow")
            needed = max(1, of.status.roles[0].desired)
            parts = (Part(towards, needed, bears[towards]), Part(other, 0, bears[other]))
            world.mixes = {"unified": MixAnswer(MixOutcome.CHOSEN, parts)}
        elif what == "lost" and world.pods:
            del world.pods[sorted(world.pods)[number % len(world.pods)]]
        elif what == "forgotten":
            world.memories = {}
        warm = number if what == "warm" else warm
        by_hand = number if what == "by hand" else by_hand
        paused = number if what == "paused" else paused
        fresh = both(warm, 400)
        scaling = fresh.spec.scaling.model_copy(update={"paused": bool(paused)})
        spec = fresh.spec.model_copy(update={"replicas": by_hand or None, "scaling": scaling})
        of = fresh.model_copy(update={"spec": spec, "status": of.status})
        for _ in range(steps):
            answering = sum(one.is_ready and one.takes_requests for one in world.pods.values())
            of, step = world.look(of)
            least = min(answering, of.status.roles[0].desired)
            assert sum(one.is_ready and one.takes_requests for one in world.pods.values()) >= least
    (told,) = of.status.roles
    pods = world.pods.values()
    assert sum(one.takes_requests for one in pods) == told.desired == told.ready
    assert sum(one.is_spare for one in pods) == warm == told.spare
    assert len(pods) == told.desired + warm
    if told.mix is not None and told.mix.reason == "MixInForce":
        assert {one.variant for one in pods if one.is_spare} <= {one.name for one in told.mix.variants if one.replicas}
    before = set(world.pods)
    for _ in range(10):
        of, step = world.look(of)
        assert (set(world.pods), {*step.drain, *step.undrain, *step.cost, *step.spare}) == (before, set())
