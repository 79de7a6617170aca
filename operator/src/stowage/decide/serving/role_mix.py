"""Of which variants a role's replicas shall be, so that they cost least: asked every few minutes, off the fast path.

A role's Service spreads requests evenly over its replicas, neither by their size nor by how fast a replica is. So each
variant that is in use has to serve the whole mixture of requests within the targets, and a role bears as many times
what its slowest replica bears as it has replicas. The integer programme is thus asked once for each variant as the
slowest: all that are at least as fast are then worth the same, and it chooses among them by cost, stock, budget and
what switching costs (docs/design/serving-mix.md). Buckets by size belong to routers that know sizes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from stowage.decide.serving.capacity import Capacity, Shape, Targets, capacity
from stowage.decide.serving.mix_demand import SHARE_OF_CLOSED_FORM
from stowage.decide.serving.mix_problem import LARGEST, MICRO, SLICES, Bucket, Mix, MixProblem, Variant
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.plan_serving import Demand, Role, Split, rated

WORTH_SWITCHING: Final = 0.1
"""What a mix must save of the cost per hour, the switch included, before anything is moved for it."""
LASTS_SECONDS: Final = 3600.0
"""For so long a mix is taken to last: what a switch costs is spread over that."""
UNITS: Final = 0.5
"""Deterministic time of each programme, in units of CP-SAT."""
_REPLICAS: Final = "replicas"
_CLOSE: Final = 1e-6
_ROUNDS: Final = 8
_GRID: Final = 0.05


class MixOutcome(StrEnum):
    """What came of asking for a mix."""

    KEPT = "Kept"
    """What is there is the cheapest, or another one would save too little."""
    CHOSEN = "Chosen"
    """Another one saves enough."""
    OUT_OF_REACH = "OutOfReach"
    """No variant serves these requests within the targets, however many replicas there are."""
    NO_ROOM = "NoRoom"
    """No mix fits into stock, bounds and budget: what there is cannot be replaced by less."""


@dataclass(frozen=True, slots=True)
class Option:
    """A variant that may be used.

    Attributes:
        name: of the variant.
        performance: of a replica.
        cost_micro: of a replica for an hour, in millionths of money or of watts.
        bears: requests per second of a replica, by the model that counts replicas.
        present: replicas that it shall have now.
        most: replicas that it may have.
        uses: what a replica takes of what the budget limits.
        start_seconds: how long a new one takes until it serves.
    """

    name: str
    performance: Performance
    cost_micro: int
    bears: float
    present: int
    most: int
    uses: Mapping[str, int] = field(default_factory=dict)
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MixQuestion:
    """What a mix is asked for with.

    Attributes:
        role: what a replica computes.
        targets: of every request.
        shape: of the requests, as far as counters tell.
        options: the variants, in the order of the spec.
        replicas: that are needed, each as fast as one of `reference`; a part of one where less than one is.
        reference: the variant that replicas are counted in.
        peak: how many times what is needed now was needed lately; at least 1.
        least: fewest replicas.
        most: most replicas.
        stock: of what options use; what is not named is not scarce.
        favoured: variants of the mix in force; empty: there is none.
    """

    role: Role
    targets: Targets
    shape: Shape
    options: tuple[Option, ...]
    replicas: float
    reference: str
    peak: float
    least: int
    most: int
    stock: Mapping[str, int] = field(default_factory=dict)
    favoured: tuple[str, ...] = ()

    def is_like(self, other: MixQuestion) -> bool:
        """Whether no more than load and what there is of replicas has changed since."""
        return self._fixed() == other._fixed()

    def _fixed(self) -> MixQuestion:
        options = tuple(replace(one, bears=0.0, present=0, start_seconds=0.0) for one in self.options)
        nothing = Shape(0.0, 0.0)
        return replace(self, shape=nothing, options=options, replicas=0, reference="", peak=1.0, favoured=())


@dataclass(frozen=True, slots=True)
class Part:
    """A variant's part in a mix: its replicas, and what one of them serves of these requests within the targets."""

    name: str
    replicas: int
    requests_per_second: float


@dataclass(frozen=True, slots=True)
class MixAnswer:
    """What to make replicas of.

    Attributes:
        outcome: whether anything shall change.
        parts: all variants, those that are used first, then those that come next, each group by cost.
        cost_micro: of the mix for an hour, without the switch.
        saves_micro: what it saves of that against staying; 0 where nothing changes, or staying is not possible.
    """

    outcome: MixOutcome
    parts: tuple[Part, ...] = ()
    cost_micro: int = 0
    saves_micro: int = 0


def answer(question: MixQuestion, *, seed: int = 0, units: float = UNITS) -> MixAnswer:
    """The mix of least cost, or the one that is there where that saves too little.

    Staying means: the variants in force, no replica moved, as many as the load asks for.

    Args:
        question: what to choose from.
        seed: of the search.
        units: deterministic time of each programme.
    """
    rates = {one.name: _rate(question, one) for one in question.options}
    if not any(rates.values()):
        return MixAnswer(MixOutcome.OUT_OF_REACH, _parts(question, rates, {}))
    worth = _worth(question, rates)
    candidates = [
        found
        for slowest in sorted({one for one in worth.values() if one > 0})
        if (found := _cheapest(question, worth, slowest, seed, units)) is not None
    ]
    if not candidates:
        return MixAnswer(MixOutcome.NO_ROOM, _parts(question, rates, {}))
    best = min(candidates, key=lambda one: one.cost_micro)
    stays = staying(question, worth)
    if stays is not None and best.cost_micro > (1 - WORTH_SWITCHING) * stays.cost_micro:
        return MixAnswer(MixOutcome.KEPT, _parts(question, rates, stays.counts), _running(question, stays.counts))
    saves = max(0, stays.cost_micro - best.cost_micro) if stays is not None else 0
    is_new = stays is None or best.counts != stays.counts
    outcome = MixOutcome.CHOSEN if is_new else MixOutcome.KEPT
    return MixAnswer(outcome, _parts(question, rates, best.counts), _running(question, best.counts), saves)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Counts by variant, and what they cost for an hour, the switch to them included."""

    counts: Mapping[str, int]
    cost_micro: int


def replicas_of(question: MixQuestion, worth: float) -> int:
    """How many replicas the load takes, each worth so many of the reference."""
    return max(question.least, 1, math.ceil(question.replicas * question.peak / worth - _CLOSE))


def staying(question: MixQuestion, worth: Mapping[str, float]) -> Fleet | None:
    """The replicas that there are and as many more of the same variants as the load takes; None: that is not possible.

    Where fewer would do, those that cost most go.
    """
    present = {one.name for one in question.options if one.present > 0}
    used = present & {*question.favoured} or present
    if not used or any(worth[name] <= 0 for name in present):
        return None
    count = replicas_of(question, min(worth[name] for name in present))
    found = {one.name: min(one.present, one.most) for one in question.options}
    by_cost = sorted((one for one in question.options if one.name in present), key=lambda one: one.cost_micro)
    for one in reversed(by_cost):
        found[one.name] -= max(0, min(found[one.name], sum(found.values()) - count))
    for one in by_cost:
        if one.name in used:
            found[one.name] += max(0, min(one.most - found[one.name], count - sum(found.values())))
    fits = sum(found.values()) == count <= question.most and _fits(question, found)
    return Fleet(found, _cost(question, found)) if fits else None


def worth_of(question: MixQuestion) -> Mapping[str, float]:
    """By variant, how many replicas of the reference one is worth; 0 where it does not serve in time."""
    return _worth(question, {one.name: _rate(question, one) for one in question.options})


def _rate(question: MixQuestion, option: Option) -> float:
    """What a replica serves of the whole mixture within the targets."""
    return _rate_of(_same(option.performance), question.role, _rounded(question.shape), question.targets)


@lru_cache(maxsize=256)
def _same(performance: Performance) -> Performance:
    """One object for all that are equal: each question comes from another process with its own."""
    return performance


@lru_cache(maxsize=8192)
def _rate_of(performance: Performance, role: Role, shape: Shape, targets: Targets) -> float:
    found = rated(Split("", 1, 1, performance), role, Demand(1.0, shape, targets), _quickly)
    return SHARE_OF_CLOSED_FORM * found.requests_per_second


def _quickly(performance: Performance, shape: Shape, targets: Targets) -> Capacity:
    return capacity(performance, shape, targets, rounds=_ROUNDS)


def _rounded(shape: Shape) -> Shape:
    """On a grid of a few percent: what a replica serves is then worked out once, and not whenever lengths waver."""

    def rounded(value: float) -> float:
        return math.exp(round(math.log(value) / _GRID) * _GRID) if value > 0 else 0.0

    return Shape(
        rounded(shape.prompt_tokens),
        rounded(shape.output_tokens),
        round(shape.prompt_variation, 1),
        round(shape.output_variation, 1),
    )


def _worth(question: MixQuestion, rates: Mapping[str, float]) -> dict[str, float]:
    """The smaller of what the two models say: the one that knows how lengths scatter, and the one that counts replicas.

    Nothing is switched to what either of them thinks too slow.
    """
    bears = {one.name: one.bears for one in question.options}
    base, measure = rates[question.reference], bears[question.reference]
    found = {}
    for name, rate in rates.items():
        ratios = [rate / base] if base > 0 else []
        if measure > 0 and bears[name] > 0:
            ratios.append(bears[name] / measure)
        found[name] = min(ratios, default=1.0) if rate > 0 else 0.0
    return found


def _cheapest(
    question: MixQuestion, worth: Mapping[str, float], slowest: float, seed: int, budget: float
) -> Fleet | None:
    """The cheapest counts of variants that are worth at least so much; None: they do not fit, or can not be reached."""
    count = replicas_of(question, slowest)
    present = {one.name: one.present for one in question.options if one.present > 0}
    least_now = min((worth[name] for name in present), default=0.0)
    if present and slowest < least_now and count > sum(present.values()) + 1:
        return None  # the first slower one would get as much as a faster one does, before others are there to share
    options = [one for one in question.options if worth[one.name] >= slowest]
    cost_unit = _unit(max(one.cost_micro, _start_micro(one)) for one in options)
    units = {name: _unit(one.uses.get(name, 0) for one in options) for name in question.stock}
    variants = tuple(
        Variant(
            one.name,
            one.cost_micro // cost_unit,
            {
                **{name: -(-amount // units.get(name, 1)) for name, amount in one.uses.items()},
                _of_variant(one.name): 1,
                _REPLICAS: 1,
            },
            present=one.present,
            start_cost_micro=_start_micro(one) // cost_unit,
        )
        for one in options
    )
    stock = {name: amount // units[name] for name, amount in question.stock.items()}
    limits = {name: amount for name, amount in stock.items() if any(name in one.uses for one in options)}
    problem = MixProblem(
        buckets=(Bucket(1, 1, float(count)),),
        variants=variants,
        replica_requests_per_second=((1.0,) * len(options),),
        stock={**limits, **{_of_variant(one.name): one.most for one in options}, _REPLICAS: question.most},
        slices=min(count, SLICES),  # one for each replica, so that any whole numbers of them fit
    )
    from stowage.decide.serving.variant_mix import cheapest_mix  # noqa: PLC0415 - CP-SAT, which only workers load

    found: Mix = cheapest_mix(problem, seed=seed, units=budget)
    if not found.counts:
        return None
    counts = {one.name: 0 for one in question.options}
    counts.update(zip((one.name for one in options), found.counts, strict=True))
    return Fleet(counts, _cost(question, counts))


def _unit(amounts: Iterable[int]) -> int:
    """The power of ten in which all of these are within what a programme may count; prices are in any currency."""
    most, unit = max(amounts, default=0), 1
    while most > LARGEST * unit:
        unit *= 10
    return unit


def _of_variant(name: str) -> str:
    return f"of {name}"  # no budget is named so


def _start_micro(option: Option) -> int:
    """While a new one starts, it and what it replaces both cost."""
    return round(option.cost_micro * option.start_seconds / LASTS_SECONDS)


def _cost(question: MixQuestion, counts: Mapping[str, int]) -> int:
    started = {one.name: max(0, counts[one.name] - one.present) for one in question.options}
    return _running(question, counts) + sum(_start_micro(one) * started[one.name] for one in question.options)


def _running(question: MixQuestion, counts: Mapping[str, int]) -> int:
    return sum(one.cost_micro * counts[one.name] for one in question.options)


def _fits(question: MixQuestion, counts: Mapping[str, int]) -> bool:
    return all(
        sum(one.uses.get(name, 0) * counts[one.name] for one in question.options) <= amount
        for name, amount in question.stock.items()
    )


def _parts(question: MixQuestion, rates: Mapping[str, float], counts: Mapping[str, int]) -> tuple[Part, ...]:
    known: Sequence[Option] = sorted(question.options, key=lambda one: one.cost_micro)
    used: Collection[str] = {name for name, count in counts.items() if count > 0}
    slowest = min((rates[name] for name in used), default=0.0)
    ranks = {one.name: (one.name not in used, rates[one.name] < slowest) for one in known}
    ordered = sorted(known, key=lambda one: ranks[one.name])
    return tuple(Part(one.name, counts.get(one.name, 0), rates[one.name]) for one in ordered)


def micro(amount: float) -> int:
    """Of money or watts, in whole millionths."""
    return round(amount * MICRO)
