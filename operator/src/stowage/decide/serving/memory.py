"""What a role's decisions remember from one to the next: frozen, and text between processes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stowage.decide.serving.decision import Decision

KEPT_DECISIONS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """What came in a stretch of time that ends at `at`: requests and prompt tokens per second."""

    at: float
    requests_per_second: float
    prompt_tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Corrections:
    """How many times the profile's decode and prefill seconds a replica really takes, and how sure that is.

    `variance` is the covariance (decode, cross, prefill); lately so many
    more observations than not were `refused` as outliers;
    `learned_at` is the time of the newest scrape that was learned from.
    """

    decode: float = 1.0
    prefill: float = 1.0
    variance: tuple[float, float, float] = (0.02, 0.0, 0.02)
    refused: int = 0
    learned_at: float | None = None


@dataclass(frozen=True, slots=True)
class Misses:
    """How the requests fared lately: seen and missed (weighted, older ones count less) and the price learned.

    `windows` are those that they were counted in, weighted alike. `price_factor` multiplies the price of an idle
    replica: below 1 where more was missed than is aimed at.
    """

    seen: float = 0.0
    missed: float = 0.0
    windows: float = 0.0
    price_factor: float = 1.0
    counted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Saturated:
    """At `at`, a replica with a queue held so many tokens."""

    at: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """At `at`, so many replicas were enough."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is remembered of a role; `Memory()` knows nothing.

    Attributes:
        bins: demand of the last hour, oldest first.
        season: demand of the last days in longer bins.
        corrections: of the latency model.
        corrected: hash of the profile that `corrections` are of; None: nobody has told yet.
        set_aside: corrections of other profiles, by such a hash, the one in use last at the end.
        misses: of the targets.
        output_tokens: mean per request, by the counters; 0: not known.
        panic_until: until then `Concurrency` lowers nothing.
        panic_replicas: its highest answer since the panic began.
        saturated: tokens in use where replicas had a queue, newest last.
        wanted: what was enough at the decisions of the stabilisation window, oldest first.
        lowered: when replicas were let go in the last minute, one entry per replica.
        needed: the replicas needed at the decisions of the window for rises, oldest first; empty without such a window.
        raised: when replicas were asked for in the last minute, one entry per replica, where that is limited.
        last_good: replicas of the last decision that was made on sound signals.
        decisions: the last ones, oldest first; such as repeat the one before are left out.
    """

    bins: tuple[Bin, ...] = ()
    season: tuple[Bin, ...] = ()
    corrections: Corrections = Corrections()
    corrected: int | None = None
    set_aside: tuple[tuple[int, Corrections], ...] = ()
    misses: Misses = Misses()
    output_tokens: float = 0.0
    panic_until: float | None = None
    panic_replicas: int = 0
    saturated: tuple[Saturated, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    lowered: tuple[float, ...] = ()
    needed: tuple[Wanted, ...] = ()
    raised: tuple[float, ...] = ()
    last_good: int | None = None
    decisions: tuple[Decision, ...] = ()


def to_json(memory: Memory) -> bytes:
    """As text; equal memories give equal text."""
    return msgspec.json.encode(memory)


def from_json(text: bytes | str) -> Memory:
    """From text.

    Raises:
        msgspec.DecodeError: the text is not that of a memory.
    """
    return msgspec.json.decode(text, type=Memory)
