"""Continuous batching, one step after the other, with the step times of a performance profile.

The rules are those of `stowage.simulate.serving.replica`, which takes many steps at once and knows all requests
beforehand; here requests come and are given up while others run.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from stowage.decide.serving.performance import Curve, Performance


@dataclass(eq=False, slots=True)
class Sequence:
    """One request within the engine; times in seconds of the clock that the engine is driven by.

    Attributes:
        prompt_tokens: at least 1.
        output_tokens: that it ends with, at least 1.
        arrived_at: when it came.
        is_prefilled: whether the keys and values of its prompt come from an engine that computed them.
        generated: tokens so far.
        started_at: when its prompt was begun; NaN before. Stays when it loses its place.
        first_token_at: NaN before.
        last_token_at: of the newest token; NaN before.
        gap_seconds: between the newest token and the one before; NaN before there are two.
    """

    prompt_tokens: int
    output_tokens: int
    arrived_at: float
    is_prefilled: bool = False
    generated: int = 0
    started_at: float = math.nan
    first_token_at: float = math.nan
    last_token_at: float = math.nan
    gap_seconds: float = math.nan

    @property
    def has_ended(self) -> bool:
        """Whether it has all its tokens."""
        return self.generated == self.output_tokens


@dataclass(eq=False, slots=True)
class _Chunk:
    """A prompt that is computed in parts: tokens of its context, and those computed after this step."""

    sequence: Sequence
    context: int
    computed: int


class Engine:
    """A replica's scheduler; who drives it calls `begin`, waits, calls `end`, and begins again.

    Attributes:
        preemptions: how often a running sequence lost its place.
        held: tokens in the KV cache, those reserved for prompts that have begun included.
    """

    def __init__(self, performance: Performance) -> None:
        self.performance = performance
        self.preemptions = self.held = 0
        self._waiting: deque[Sequence] = deque()
        self._chunks: list[_Chunk] = []
        self._running: dict[Sequence, None] = {}  # those that decode, oldest first

    @property
    def waiting(self) -> int:
        """Requests that have not begun, or lost their place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that have begun."""
        return len(self._running) + len(self._chunks)

    @property
    def kv_use(self) -> float:
        """Share of the KV cache in use, 0 to 1."""
        return self.held / self.performance.kv_capacity_tokens

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request can be served at all: its last step needs all its tokens but the last in the cache."""
        return prompt_tokens + output_tokens - 1 <= self.performance.kv_capacity_tokens

    def add(self, sequence: Sequence) -> None:
        """A request that `fits` comes; the next step that begins may take it."""
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Its client is gone. What has ended already is no mistake."""
        if sequence in self._running:
            del self._running[sequence]
            self.held -= _tokens(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        for chunk in [one for one in self._chunks if one.sequence is sequence]:
            self._chunks.remove(chunk)
            self.held -= chunk.context

    def begin(self, now: float) -> float | None:
        """Begins a step; the seconds that it takes, None where there is nothing to do."""
        self._make_room()
        tokens, earlier = self._admit(now)
        decoding, kv_tokens = len(self._running), sum(map(_tokens, self._running))
        if tokens:
            return self.performance.mixed_step_seconds(tokens, decoding, kv_tokens, earlier)
        return self.performance.decode_step_seconds(decoding, kv_tokens) if decoding else None

    def end(self, now: float) -> list[Sequence]:
        """Ends the step: the sequences that got a token, in order; those that have ended are gone from the engine."""
        decoded = list(self._running)
        self.held += len(decoded)
        computed = [chunk for chunk in self._chunks if chunk.computed == chunk.context]
        self._chunks = [chunk for chunk in self._chunks if chunk.computed < chunk.context]
        given = [*decoded, *(chunk.sequence for chunk in computed)]
        self._running.update(dict.fromkeys(given))
        for sequence in given:
            sequence.generated += 1
            sequence.gap_seconds = now - sequence.last_token_at
            sequence.last_token_at = now
            if math.isnan(sequence.first_token_at):
                sequence.first_token_at = now
            if sequence.has_ended:
                del self._running[sequence]
                self.held -= _tokens(sequence)
        return given

    def _admit(self, now: float) -> tuple[int, float]:
        """Fills the step's budget with prompts; their tokens, and what attention to earlier chunks costs."""
        performance = self.performance
        tokens, earlier = 0, 0.0
        for chunk in self._chunks:  # at most one, begun before
            part = min(self._budget(), chunk.context - chunk.computed)
            earlier += performance.earlier_chunk_seconds(chunk.computed, part)
            chunk.computed += part
            tokens += part
        while self._waiting and tokens < self._budget() and self.running < performance.max_running:
            sequence = self._waiting[0]
            context = sequence.prompt_tokens + sequence.generated
            if self.held + context + len(self._running) + sequence.is_prefilled > performance.kv_capacity_tokens:
                break
            self._waiting.popleft()
            self.held += context
            if math.isnan(sequence.started_at):
                sequence.started_at = now
            if sequence.is_prefilled:
                self._running[sequence] = None
                continue
            part = min(self._budget() - tokens, context)
            self._chunks.append(_Chunk(sequence, context, part))
            tokens += part
        return tokens, earlier

    def _budget(self) -> int:
        return self.performance.max_batched_tokens - len(self._running)

    def _make_room(self) -> None:
        """Those that began last wait again, at the head of the queue, until the others have room for a token each."""
        capacity = self.performance.kv_capacity_tokens
        if self.held + len(self._running) <= capacity:
            return
        for chunk in self._chunks:
            self.held -= chunk.context
            self._waiting.appendleft(chunk.sequence)
        self._chunks.clear()
        while self.held + len(self._running) > capacity:
            sequence, _ = self._running.popitem()
            self.held -= _tokens(sequence)
            sequence.is_prefilled = False
            self._waiting.appendleft(sequence)
            self.preemptions += 1


def _tokens(sequence: Sequence) -> int:
    """What a sequence that decodes has in the KV cache: not yet its newest token, which the prompt's step gave."""
    if sequence.is_prefilled:
        return sequence.prompt_tokens + sequence.generated
    return sequence.prompt_tokens + sequence.generated - 1


def sped(performance: Performance, factor: float) -> Performance:
    """The performance of a replica that is `factor` times as fast.

    Raises:
        ValueError: the factor is not more than 0, or a step would become shorter than profiles may say.
    """
    if not 0.0 < factor < math.inf:
        raise ValueError(f"a speed of {factor:g} is not more than 0")

    def faster(curve: Curve) -> Curve:
        return Curve(curve.at, tuple(value / factor for value in curve.values))

    return Performance(
        prefill_seconds=faster(performance.prefill_seconds),
        decode_seconds=faster(performance.decode_seconds),
        kv_capacity_tokens=performance.kv_capacity_tokens,
        decode_seconds_per_kv_token=faster(performance.decode_seconds_per_kv_token),
        mixed_factor=performance.mixed_factor,
        max_running=performance.max_running,
        max_batched_tokens=performance.max_batched_tokens,
        overhead_seconds=performance.overhead_seconds / factor,
    )
