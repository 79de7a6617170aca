"""A role's replicas under one policy: router, cold starts, drain, failures, scrapes.

The router gives each request to the ready replica with the fewest outstanding ones, the oldest among equals; without
any it keeps them in order. Who is no longer wanted drains: those that still start go first, then the ones with the
fewest requests, which they finish without new ones.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import numpy as np

from stowage.decide.serving.view import ReplicaView, Scrape, View
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.outcome import COMPLETED, REJECTED, UNFINISHED, Outcome, ReplicaLife, ScaleEvent
from stowage.simulate.serving.policy import Policy
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import MetricsOutage, ReplicaLoss, Setup

_READY: Final = 0  # at one instant, replicas become ready before others fail, before scrapes, before decisions
_LOSS: Final = 1
_SCRAPE: Final = 2
_DECISION: Final = 3


def run(requests: Requests, make: Callable[[], Policy], setup: Setup) -> Outcome:
    """Plays requests against a policy.

    The policy is asked, and failures happen, until the last request arrives; then the run goes on until all are done,
    for at most `setup.drain_limit_seconds`.

    Raises:
        ValueError: the policy's interval is not more than 0.
    """
    policy = make()
    if not policy.interval_seconds > 0:
        raise ValueError(f"{policy.name}: an interval of {policy.interval_seconds:g} s between decisions")
    return _Fleet(requests, policy, setup).play()


@dataclass(slots=True, eq=False)
class _Member:
    name: str
    asked_at: float
    engine: Replica
    ready_at: float | None = None
    drained_at: float | None = None
    seen: tuple[int, int, int] = (0, 0, 0)
    """Waiting, running and tokens in the KV cache at the last scrape."""

    def gone(self, at: float) -> ReplicaLife:
        return ReplicaLife(self.name, self.asked_at, self.ready_at, self.drained_at, at)


@dataclass(slots=True)
class _Starts:
    """How long starts took so far; the mean of the setup counts as the first."""

    total_seconds: float
    count: int = 1

    def learn(self, seconds: float) -> None:
        self.total_seconds += seconds
        self.count += 1


@dataclass(slots=True)
class _Counted:
    """What the router counts at arrival."""

    arrived: int = 0
    prompt_tokens: int = 0


@dataclass(slots=True)
class _Members:
    starting: list[_Member] = field(default_factory=list)
    ready: list[_Member] = field(default_factory=list)
    draining: list[_Member] = field(default_factory=list)


class _Fleet:
    def __init__(self, requests: Requests, policy: Policy, setup: Setup) -> None:
        self._requests, self._policy, self._setup = requests, policy, setup
        self._ledger = Ledger(requests)
        self._rng = np.random.default_rng(setup.seed)
        self._starts = _Starts(setup.cold_start.mean_seconds)
        self._members = _Members()
        self._lives: list[ReplicaLife] = []
        self._scale_events: list[ScaleEvent] = []
        self._scrapes: deque[Scrape] = deque()
        self._held_back: deque[int] = deque()  # requests that came while no replica was ready
        self._rejected: set[int] = set()
        self._counted = _Counted()
        self._desired = setup.initial
        self._made = 0
        self._events: list[tuple[float, int, int, _Member | ReplicaLoss | None]] = []
        self._number = 0
        self._outages = [one for one in setup.failures if isinstance(one, MetricsOutage)]

    def play(self) -> Outcome:
        setup = self._setup
        for _ in range(setup.initial):
            member = self._member(0.0)
            member.ready_at = 0.0
            self._members.ready.append(member)
        for failure in setup.failures:
            if isinstance(failure, ReplicaLoss):
                self._push(failure.at_seconds, _LOSS, failure)
        self._push(0.0, _SCRAPE)
        self._push(self._policy.interval_seconds, _DECISION)
        for index, at in enumerate(self._ledger.arrival_seconds):
            while self._events[0][0] <= at:
                self._happen()
            self._route(index, at)
        return self._finish()

    def _push(self, at: float, kind: int, what: _Member | ReplicaLoss | None = None) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, kind, self._number, what))

    def _happen(self) -> None:
        at, kind, _, what = heapq.heappop(self._events)
        self._advance(at)
        if isinstance(what, _Member):
            self._become_ready(what, at)
        elif isinstance(what, ReplicaLoss):
            self._lose(what.count, at)
        elif kind == _SCRAPE:
            self._scrape(at)
            self._push(at + self._setup.scrape_interval_seconds, _SCRAPE)
        else:
            least, most = self._setup.bounds
            self._want(min(most, max(least, self._policy.decide(self._view(at)))), at)
            self._push(at + self._policy.interval_seconds, _DECISION)

    def _advance(self, until: float) -> None:
        for group in (self._members.ready, self._members.draining):
            for member in group:
                if member.engine.next_at <= until:
                    member.engine.advance(until)
        if self._members.draining:
            self._let_go()

    def _let_go(self) -> None:
        for member in [one for one in self._members.draining if not one.engine.outstanding]:
            self._members.draining.remove(member)
            self._lives.append(member.gone(max(member.engine.emptied_at, member.drained_at or 0.0)))

    def _route(self, index: int, at: float) -> None:
        self._counted.arrived += 1
        self._counted.prompt_tokens += self._ledger.prompt_tokens[index]
        least: Replica | None = None
        fewest = math.inf
        for member in self._members.ready:
            engine = member.engine
            if engine.next_at <= at:
                engine.advance(at)
            if engine.outstanding < fewest:
                least, fewest = engine, engine.outstanding
        if least is None:
            self._held_back.append(index)
        elif least.fits(index):
            least.enqueue(index, at)
        else:
            self._rejected.add(index)

    def _member(self, at: float) -> _Member:
        self._made += 1
        return _Member(f"replica-{self._made}", at, Replica(self._setup.performance, self._ledger))

    def _ask_for(self, count: int, at: float) -> None:
        for _ in range(count):
            member = self._member(at)
            self._members.starting.append(member)
            self._push(at + self._setup.cold_start.draw(self._rng), _READY, member)

    def _become_ready(self, member: _Member, at: float) -> None:
        if member not in self._members.starting:
            return  # no longer wanted
        self._members.starting.remove(member)
        self._starts.learn(at - member.asked_at)
        member.ready_at = at
        self._members.ready.append(member)
        while self._held_back:
            index = self._held_back.popleft()
            if member.engine.fits(index):
                member.engine.enqueue(index, at)
            else:
                self._rejected.add(index)

    def _lose(self, count: int, at: float) -> None:
        lost, self._members.ready = self._members.ready[:count], self._members.ready[count:]
        for member in lost:
            member.engine.settle(at)
            self._rejected.update(member.engine.requests())
            self._lives.append(member.gone(at))
        self._ask_for(len(lost), at)

    def _want(self, desired: int, at: float) -> None:
        if desired == self._desired:
            return
        self._scale_events.append(ScaleEvent(at, self._desired, desired))
        self._desired = desired
        members = self._members
        surplus = len(members.starting) + len(members.ready) - desired
        self._ask_for(-surplus, at)
        for _ in range(min(surplus, len(members.starting))):
            self._lives.append(members.starting.pop().gone(at))
            surplus -= 1
        for _ in range(surplus):
            member = min(reversed(members.ready), key=lambda one: one.engine.outstanding)
            members.ready.remove(member)
            member.drained_at = at
            members.draining.append(member)
        self._let_go()

    def _scrape(self, at: float) -> None:
        members, ledger = self._members, self._ledger
        for member in (*members.ready, *members.draining):
            member.engine.settle(at)
        if self._dark(at):
            return
        for member in members.ready:
            member.seen = _figures(member)
        figures = [member.seen for member in members.ready]
        capacity = self._setup.performance.kv_capacity_tokens
        self._scrapes.append(
            Scrape(
                at=at,
                ready=len(members.ready),
                starting=len(members.starting),
                waiting=sum(one[0] for one in figures) + len(self._held_back),
                running=sum(one[1] for one in figures),
                kv_tokens_in_use=sum(one[2] for one in figures),
                kv_tokens_capacity=capacity * len(members.ready),
                arrived=self._counted.arrived,
                completed=ledger.completed,
                prompt_tokens=self._counted.prompt_tokens,
                generated_tokens=ledger.generated,
                ttft_counts=tuple(accumulate(ledger.ttft_counts)),
                itl_counts=tuple(accumulate(ledger.itl_counts)),
                mean_itl_counts=tuple(accumulate(ledger.mean_itl_counts)),
                e2e_counts=tuple(accumulate(ledger.e2e_counts)),
            )
        )
        while self._scrapes[0].at < at - self._setup.history_seconds:
            self._scrapes.popleft()

    def _dark(self, at: float) -> bool:
        return any(one.from_seconds <= at < one.until_seconds for one in self._outages)

    def _view(self, at: float) -> View:
        dark = self._dark(at)
        capacity = self._setup.performance.kv_capacity_tokens
        replicas = []
        for member in (*self._members.ready, *self._members.starting):
            is_ready = member.ready_at is not None
            if is_ready and not dark:
                member.engine.settle(at)
                waiting, running, tokens = _figures(member)
            else:
                waiting, running, tokens = member.seen
            age = at - member.asked_at
            replicas.append(ReplicaView(member.name, is_ready, age, waiting, running, tokens, capacity))
        learned = self._starts.total_seconds / self._starts.count
        return View(at, self._desired, tuple(replicas), tuple(self._scrapes), learned)

    def _finish(self) -> Outcome:
        duration = self._requests.duration_seconds
        limit = duration + self._setup.drain_limit_seconds
        while self._held_back and self._events and self._events[0][0] <= limit:
            at, _, _, what = heapq.heappop(self._events)
            if isinstance(what, _Member):
                self._become_ready(what, at)
        self._advance(limit)
        members = self._members
        for member in (*members.ready, *members.draining):
            engine = member.engine
            self._lives.append(member.gone(limit if engine.outstanding else max(duration, engine.emptied_at)))
        self._lives.extend(member.gone(duration) for member in members.starting)
        return self._outcome(limit)

    def _outcome(self, limit: float) -> Outcome:
        ledger, requests = self._ledger, self._requests
        first, last = np.array(ledger.first_token_at), np.array(ledger.finished_at)
        status = np.where(np.isnan(last), UNFINISHED, COMPLETED).astype(np.int8)
        status[sorted(self._rejected)] = REJECTED
        ttft = first - requests.arrival_seconds
        return Outcome(
            policy=self._policy.name,
            requests=requests,
            status=status,
            ttft_seconds=ttft,
            itl_seconds=(last - first) / np.maximum(1, requests.output_tokens - 1),
            waited_seconds=np.where(np.isnan(ttft), limit - requests.arrival_seconds, ttft),
            slo_ttft_seconds=self._setup.slo_ttft_seconds,
            slo_itl_seconds=self._setup.slo_itl_seconds,
            gpus_per_replica=self._setup.gpus_per_replica,
            lives=tuple(self._lives),
            scale_events=tuple(self._scale_events),
            end_seconds=max([requests.duration_seconds, *(life.gone_at for life in self._lives)]),
            preemptions=ledger.preemptions,
        )


def _figures(member: _Member) -> tuple[int, int, int]:
    engine = member.engine
    return engine.waiting, engine.running, engine.kv_tokens()
