"""One engine with continuous batching: chunked prefill mixed with decode, a KV cache of limited size, a queue.

The rules are those of vLLM's scheduler. A step first gives every running sequence a token, then spends what is left of
its token budget on prompts, in order of arrival, the last one in part. A prompt is begun when the whole of it fits into
the KV cache. Where a step finds no room for the tokens of running sequences, those that began last lose their place and
are computed again. Tokens are counted one by one, not in blocks, and no prefix is shared.

Between two changes of the batch all steps are of one kind, so that the time after `n` of them is a closed form: the
work per request does not grow with its output.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

from stowage.decide.serving.performance import Performance, step_times
from stowage.simulate.serving.ledger import Ledger


class Replica:
    """An engine; times are seconds of the simulation and never go back.

    Attributes:
        next_at: when the batch changes next without further arrivals; infinite while idle.
        outstanding: requests in it, waiting or running.
        emptied_at: when the last of them left.
        held: tokens in the KV cache, those reserved for prompts that have begun included.
    """

    __slots__ = (
        "_base", "_blocked", "_chunks", "_counted", "_decode_kv", "_ends", "_generated", "_ledger", "_performance",
        "_running", "_segment_steps", "_slope", "_started_at", "_step_seconds", "_steps",
        "_times", "_token_at", "_waiting", "capacity", "emptied_at", "held", "next_at", "outstanding",
    )  # fmt: skip

    def __init__(self, performance: Performance, ledger: Ledger) -> None:
        self._performance, self._ledger = performance, ledger
        self._times = step_times(performance)
        self.capacity = performance.kv_capacity_tokens
        self.next_at, self.emptied_at = math.inf, 0.0
        self.outstanding = self.held = 0
        self._waiting: deque[int] = deque()
        self._running: dict[int, int] = {}  # those that decode, oldest first, and the step that gives the last token
        self._ends: list[tuple[int, int]] = []  # the same as a heap of (step, request); preempted ones remain in it
        self._generated: dict[int, int] = {}  # tokens of those that lost their place
        self._token_at: dict[int, float] = {}  # and when they had the last one
        self._chunks: list[list[int]] = []  # [request, tokens of its context, computed after this step]
        self._steps = 0  # so far
        self._decode_kv = 0  # tokens of those that decode
        self._started_at = 0.0  # of the step with prompts, or of the run of equal steps
        self._step_seconds = 0.0  # of the step with prompts
        self._base = self._slope = 0.0  # a step of the run takes base + slope * tokens held
        self._segment_steps = self._counted = 0  # steps in the run, and of them, those in the ledger
        self._blocked = False  # who waits can not begin before somebody ends

    @property
    def waiting(self) -> int:
        """Requests that have not begun, or lost their place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that have begun."""
        return self.outstanding - len(self._waiting)

    def fits(self, index: int) -> bool:
        """Whether a request can be served at all: its last step needs all its tokens but the last in the cache."""
        ledger = self._ledger
        return ledger.prompt_tokens[index] + ledger.output_tokens[index] - 1 <= self.capacity

    def requests(self) -> list[int]:
        """Those in it."""
        return [*self._running, *(chunk[0] for chunk in self._chunks), *self._waiting]

    def enqueue(self, index: int, now: float) -> None:
        """A request that `fits` comes, after `advance(now)`."""
        self._waiting.append(index)
        self.outstanding += 1
        if self.next_at == math.inf:
            self._plan(now)
        elif not self._chunks and not self._blocked:
            self._segment_steps = min(self._segment_steps, self._steps_until(now))
            self.next_at = self._after(self._segment_steps)

    def advance(self, until: float) -> None:
        """Lets all happen that happens until then."""
        while self.next_at <= until:
            if self._chunks:
                self._end_step()
            else:
                self._end_segment()

    def settle(self, now: float) -> None:
        """Counts the tokens of all steps that have ended, after `advance(now)`, for a scrape."""
        if self._running and not self._chunks:
            steps = self._steps_until(now)
            if self._after(steps) > now:
                steps -= 1
            self._count(min(steps, self._segment_steps))

    def kv_tokens(self) -> int:
        """Tokens in the KV cache, after `settle(now)`."""
        return self.held if self._chunks else self.held + self._counted * len(self._running)

    def _plan(self, now: float) -> None:
        """At a boundary between steps: what the next step, or run of steps, is."""
        if self.held + len(self._running) > self.capacity:
            self._preempt(now)
        decoding = len(self._running)
        tokens, earlier = self._admit(decoding)
        self._started_at = now
        if tokens:
            self._step_seconds = self._times.mixed(tokens, decoding, self._decode_kv, earlier)
            self.next_at = now + self._step_seconds
        elif decoding:
            self._base, self._slope = self._times.decode[decoding], self._times.per_kv_token[decoding]
            self._counted = 0
            self._blocked = bool(self._waiting)
            while self._running.get(self._ends[0][1]) != self._ends[0][0]:
                heapq.heappop(self._ends)
            room = (self.capacity - self.held) // decoding
            self._segment_steps = min(self._ends[0][0] - self._steps, room)
            self.next_at = self._after(self._segment_steps)
        else:
            self.next_at = math.inf

    def _admit(self, decoding: int) -> tuple[int, float]:
        """Fills the step's budget with prompts; their tokens, and what attention to earlier chunks costs."""
        performance = self._performance
        budget = performance.max_batched_tokens - decoding
        tokens, earlier = 0, 0.0
        for chunk in self._chunks:  # at most one, begun before
            part = min(budget, chunk[1] - chunk[2])
            earlier += performance.earlier_chunk_seconds(chunk[2], part)
            chunk[2] += part
            tokens += part
        while self._waiting and tokens < budget and decoding + len(self._chunks) < performance.max_running:
            index = self._waiting[0]
            context = self._ledger.prompt_tokens[index] + self._generated.get(index, 0)
            if self.held + context + decoding > self.capacity:
                break
            self._waiting.popleft()
            part = min(budget - tokens, context)
            self._chunks.append([index, context, part])
            self.held += context
            tokens += part
        return tokens, earlier

    def _preempt(self, now: float) -> None:
        """Those that began last wait again, at the head of the queue, until the others have room for a token each."""
        for chunk in self._chunks:
            self.held -= chunk[1]
            self._waiting.appendleft(chunk[0])
        self._chunks.clear()
        while self.held + len(self._running) > self.capacity:
            index, end = self._running.popitem()
            generated = self._ledger.output_tokens[index] - (end - self._steps)
            tokens = self._ledger.prompt_tokens[index] + generated - 1
            self.held -= tokens
            self._decode_kv -= tokens
            self._generated[index] = generated
            self._token_at[index] = now
            self._waiting.appendleft(index)
            self._ledger.preemptions += 1

    def _end_step(self) -> None:
        now, decoding = self.next_at, len(self._running)
        self._steps += 1
        if decoding:
            self._grow(decoding)
            self._ledger.generated += decoding
            self._ledger.interval(self._step_seconds, decoding)
            self._complete(now)
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            if chunk[2] < chunk[1]:
                self._chunks.append(chunk)
            else:
                self._begin(chunk[0], chunk[1], now)
        self._plan(now)

    def _begin(self, index: int, context: int, now: float) -> None:
        """A prompt has been computed, which gives a token."""
        ledger = self._ledger
        self._decode_kv += context
        generated = self._generated.pop(index, 0) + 1
        ledger.generated += 1
        if generated == 1:
            ledger.first_token(index, now + self._performance.overhead_seconds)
        else:
            ledger.interval(now - self._token_at.pop(index), 1)
        left = ledger.output_tokens[index] - generated
        if left:
            self._running[index] = self._steps + left
            heapq.heappush(self._ends, (self._steps + left, index))
        else:
            self._leave(index, now)

    def _end_segment(self) -> None:
        now, steps = self.next_at, self._segment_steps
        self._count(steps)
        self._steps += steps
        self._grow(steps * len(self._running))
        self._complete(now)
        self._plan(now)

    def _grow(self, tokens: int) -> None:
        self.held += tokens
        self._decode_kv += tokens

    def _complete(self, now: float) -> None:
        """Those that have had their last token leave."""
        while self._ends and self._ends[0][0] <= self._steps:
            end, index = heapq.heappop(self._ends)
            if self._running.get(index) == end:
                del self._running[index]
                self._leave(index, now)

    def _leave(self, index: int, now: float) -> None:
        ledger = self._ledger
        tokens = ledger.prompt_tokens[index] + ledger.output_tokens[index] - 1
        self.held -= tokens
        self._decode_kv -= tokens
        ledger.finish(index, now + self._performance.overhead_seconds)
        self.outstanding -= 1
        if not self.outstanding:
            self.emptied_at = now

    def _count(self, steps: int) -> None:
        """Writes the run's steps up to that number into the ledger."""
        if steps > self._counted:
            decoding = len(self._running)
            self._ledger.generated += (steps - self._counted) * decoding
            self._ledger.intervals(self._one_step, self._counted, steps, decoding)
            self._counted = steps

    def _one_step(self, number: int) -> float:
        return self._base + self._slope * (self.held + number * len(self._running))

    def _after(self, steps: int) -> float:
        """When so many steps of the run have ended."""
        tokens = steps * self.held + len(self._running) * (steps * (steps - 1) // 2)
        return self._started_at + (steps * self._base + self._slope * tokens)

    def _steps_until(self, now: float) -> int:
        """The fewest steps of the run after which it is `now` or later."""
        growth = self._slope * len(self._running) / 2.0
        first = self._base + self._slope * self.held - growth
        left = now - self._started_at
        root = math.sqrt(first * first + 4.0 * growth * left)
        steps = int(2.0 * left / (first + root)) if left > 0 else 0
        while self._after(steps) < now:
            steps += 1
        while steps and self._after(steps - 1) >= now:
            steps -= 1
        return steps
