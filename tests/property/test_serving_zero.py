"""Services that go to zero and come back while requests come at any time: none meets nobody, none is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.serving_children import Told, deployment, pod, quiet_view, role, service
from stowage.api.model_service import ModelService
from stowage.api.names import COMPONENT_LABEL
from stowage.decide.serving.hold import Held
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import DeploymentFact, PodFact
from stowage.decide.serving.service_step import Seen, ServiceStep, next_step

BEGIN = 1_000_000.0
LEARN_SECONDS = 3.0
"""Until all proxies know where a Service leads to."""
DEPLOYMENT = "llama-unified-default"


@dataclass
class World:
    """One service; a request takes no time once a replica has it."""

    start_seconds: float
    now: float = BEGIN
    warm: int = 0
    of: ModelService = field(init=False)
    replicas: int = 1
    pods: list[PodFact] = field(default_factory=list)
    memories: dict[str, RoleMemory] = field(default_factory=dict)
    is_activator_ready: bool = True
    is_heard: bool = True
    waiting: int = 0
    waits_since: float | None = None
    left_at: float | None = None
    asked_at: float = BEGIN
    led: list[tuple[float, bool]] = field(default_factory=list)  # when the Service was turned over, to the activator?
    leads_since: float | None = None
    made: int = 0

    def __post_init__(self) -> None:
        self.of = service(role() | {"warm": {"pods": self.warm}}, scaling={"scaleToZero": {"after": "30s"}})

    def pass_over(self) -> ServiceStep:
        self._kubelets()
        held = Held(
            is_ready=self.is_activator_ready,
            waiting=self.waiting,
            idle_since=self.left_at,
            heard_at=self.now if self.is_heard else None,
            leads_since=self.leads_since,
        )
        told = next(iter(self.of.status.roles), None)
        desired = 1 if told is None else told.desired
        there = [one for one in self.pods if one.takes_requests]
        view = quiet_view(there, desired, self.now, 60.0)
        scrapes = tuple(
            replace(one, arrived=1000 + (one.at > self.asked_at), completed=1000 + (one.at > self.asked_at))
            for one in view.scrapes
        )
        look = Told(replace(view, scrapes=scrapes), {one.ref.name: 0 for one in self.pods}, {})
        known: dict[str, DeploymentFact] = {DEPLOYMENT: deployment(self.replicas)}
        step = next_step(
            Seen(self.of, tuple(self.pods), known, {"unified": look}, {}, self.now, dict(self.memories), held=held)
        )
        self._apply(step)
        return step

    def _apply(self, step: ServiceStep) -> None:
        self.of = self.of.model_copy(update={"status": step.status})
        self.memories = dict(step.memories)
        (own,) = [one for one in step.apply if (one["kind"], one["metadata"]["name"]) == ("Service", "llama")]
        to_activator = COMPONENT_LABEL in own["spec"]["selector"]
        if not self.led or self.led[-1][1] is not to_activator:
            self.led.append((self.now, to_activator))
        if to_activator and self.leads_since is None:
            self.leads_since = self.now
        elif not to_activator:
            self.leads_since = None
        drained, kept = {*step.drain}, {*step.undrain}
        for index, one in enumerate(self.pods):
            if one.ref in drained:
                self.pods[index] = replace(one, takes_requests=False, draining_since=self.now)
            elif one.ref in kept:
                self.pods[index] = replace(one, takes_requests=True, draining_since=None)
            if one.ref in step.spare:
                self.pods[index] = replace(one, takes_requests=False, is_spare=True, draining_since=None)
            elif one.ref in step.unspare:
                self.pods[index] = replace(self.pods[index], is_spare=False)
            if one.ref in step.cost:
                self.pods[index] = replace(self.pods[index], deletion_cost=step.cost[one.ref] or None)
        (asked,) = [one for one in step.apply if one["metadata"]["name"] == DEPLOYMENT]
        self.replicas = asked["spec"]["replicas"]

    def _kubelets(self) -> None:
        while len(self.pods) > self.replicas:
            self.pods.remove(min(self.pods, key=lambda one: (one.is_ready, one.deletion_cost or 0)))
        while len(self.pods) < self.replicas:
            self.made += 1
            fresh = pod(self.made, created_at=self.now, is_ready=False, ready_at=None, scheduled_at=self.now)
            self.pods.append(fresh)
        for index, one in enumerate(self.pods):
            if not one.is_ready and self.now - one.created_at >= self.start_seconds:
                self.pods[index] = replace(one, is_ready=True, ready_at=self.now)
        if self.waiting and self.replica_takes():
            self.waiting, self.waits_since = 0, None
            self.left_at = self.asked_at = self.now

    def replica_takes(self) -> bool:
        return any(one.is_ready and one.takes_requests for one in self.pods)

    def _answers(self) -> bool | None:
        """Whether the Service leads to the activator, as a proxy that is late knows it; None: nobody has said."""
        known = [where for at, where in self.led if at <= self.now - LEARN_SECONDS]
        return known[-1] if known else None

    def ask(self) -> None:
        """A request comes, by a proxy that is up to date, or by one that is late."""
        if not self.led:
            return
        for to_activator in {self.led[-1][1], self._answers()} - {None}:
            if not to_activator:
                assert self.replica_takes(), f"a request at {self.now - BEGIN} met nobody: {self.led[-3:]}"
                self.asked_at = self.now
            elif self.is_activator_ready:
                if self.replica_takes():
                    self.left_at = self.asked_at = self.now
                elif self.waiting < 100:
                    self.waiting += 1
                    self.waits_since = self.now if self.waits_since is None else self.waits_since


MOVES = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1.0, 5.0, 5.0, 10.0, 60.0])),
    st.tuples(st.just("ask"), st.just(0.0)),
    st.tuples(st.just("forget"), st.just(0.0)),
    st.tuples(st.just("unheard"), st.just(0.0)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(MOVES, min_size=4, max_size=12), st.sampled_from([2.0, 20.0, 200.0]), st.integers(0, 1))
def test_none_meets_nobody_and_none_is_forgotten(
    moves: list[tuple[str, float]], start_seconds: float, warm: int
) -> None:
    world = World(start_seconds, warm=warm)
    for what, seconds in [("wait", 60.0), *moves, ("ask", 0.0), ("wait", 60.0)]:
        if what == "ask":
            world.ask()
        elif what == "forget":  # another operator leads
            world.memories, world.leads_since = {}, None
        elif what == "unheard":
            world.is_heard = not world.is_heard
        for _ in range(round(seconds / 5.0) or int(seconds)):
            world.now += min(seconds, 5.0)
            before, answered = world.replicas, world.replica_takes()
            step = world.pass_over()
            told = step.status.roles[0]
            if step.drain or (answered and step.spare and not world.replica_takes()):
                assert world.leads_since is not None, "the Service is turned over first"
                assert world.now - world.leads_since >= LEARN_SECONDS
                assert world.is_heard
            if world.waiting and world.is_heard:
                assert told.desired >= 1, "somebody waits"
            if world.replicas < before:
                event("went to zero")
    event(f"ends at {world.of.status.roles[0].desired}")
