"""An engine with continuous batching, played step by step with nothing but lists: what the fast one is held against."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stowage.decide.serving.performance import Performance
from stowage.simulate.serving.requests import Requests


@dataclass
class Sequence:
    """One that has begun: tokens of its context, and how many of them are computed."""

    index: int
    context: int
    computed: int = 0

    @property
    def decodes(self) -> bool:
        """Whether its context is computed."""
        return self.computed == self.context


@dataclass
class Played:
    """Per request when it had its first and last token; all times of and between tokens; the most tokens ever held."""

    first: list[float]
    last: list[float]
    gaps: list[float] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    most_held: int = 0
    preemptions: int = 0


class Engine:
    """The state between two steps."""

    def __init__(self, requests: Requests, performance: Performance) -> None:
        self.performance = performance
        self.prompts, self.outputs = requests.prompt_tokens.tolist(), requests.output_tokens.tolist()
        self.arrivals = list(enumerate(requests.arrival_seconds.tolist()))
        self.generated = [0] * len(requests)
        self.token_at = [math.nan] * len(requests)
        self.played = Played([math.nan] * len(requests), [math.nan] * len(requests))
        self.waiting: list[int] = []
        self.begun: list[Sequence] = []
        self.now = 0.0

    def decoding(self) -> list[Sequence]:
        return [one for one in self.begun if one.decodes]

    def held(self) -> int:
        return sum(one.context for one in self.begun)

    def step(self) -> None:
        self.arrive()
        while self.held() + len(self.decoding()) > self.performance.kv_capacity_tokens:
            lost = self.begun.pop()
            self.played.preemptions += lost.decodes
            self.waiting.insert(0, lost.index)
        decoding = self.decoding()
        kv_tokens = sum(one.context for one in decoding)
        tokens, earlier = self.prefill(len(decoding))
        ready = [one for one in self.decoding() if one not in decoding]
        if tokens:
            self.now += self.performance.mixed_step_seconds(tokens, len(decoding), kv_tokens, earlier)
        else:
            self.now += self.performance.decode_step_seconds(len(decoding), kv_tokens)
        for one in decoding:
            one.context += 1
            one.computed += 1
        self.played.most_held = max(self.played.most_held, self.held())
        for one in (*decoding, *ready):
            self.token(one)

    def arrive(self) -> None:
        if not self.waiting and not self.begun:
            self.now = max(self.now, self.arrivals[0][1])
        while self.arrivals and self.arrivals[0][1] <= self.now:
            self.waiting.append(self.arrivals.pop(0)[0])

    def prefill(self, decoding: int) -> tuple[int, float]:
        """Spends the rest of the budget on prompts: tokens, and the cost of earlier chunks."""
        budget = self.performance.max_batched_tokens - decoding
        tokens, earlier = 0, 0.0
        while tokens < budget:
            one = next((one for one in self.begun if not one.decodes), None) or self.begin(decoding)
            if one is None:
                break
            part = min(budget - tokens, one.context - one.computed)
            earlier += self.performance.earlier_chunk_seconds(one.computed, part)
            one.computed += part
            tokens += part
        return tokens, earlier

    def begin(self, decoding: int) -> Sequence | None:
        if not self.waiting or len(self.begun) >= self.performance.max_running:
            return None
        context = self.prompts[self.waiting[0]] + self.generated[self.waiting[0]]
        if self.held() + decoding + context > self.performance.kv_capacity_tokens:
            return None
        self.begun.append(Sequence(self.waiting.pop(0), context))
        return self.begun[-1]

    def token(self, one: Sequence) -> None:
        if self.generated[one.index]:
            self.played.gaps.append(self.now - self.token_at[one.index])
        else:
            self.played.first[one.index] = self.now
        self.generated[one.index] += 1
        self.played.token_times.append(self.now)
        self.token_at[one.index] = self.now
        if self.generated[one.index] == self.outputs[one.index]:
            self.played.last[one.index] = self.now
            self.begun.remove(one)


def one_by_one(requests: Requests, performance: Performance) -> Played:
    """The rules of vLLM's scheduler: decode first, then prompts in order of arrival; who began last is preempted."""
    engine = Engine(requests, performance)
    while engine.arrivals or engine.waiting or engine.begun:
        engine.step()
    return engine.played
