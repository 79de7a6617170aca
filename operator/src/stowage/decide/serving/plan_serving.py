"""Which layout serves a model on given GPUs: roles apart or together, how each is split over GPUs, how many of each.

The search is that of DistServe (Zhong et al., OSDI'24, arXiv:2401.09670): for each role and each way to split the model
(tensor, pipeline) the highest rate per replica within the latency targets, then as many replicas as the demand takes.
Where keys and values have to stay within a node (low affinity), prefill and decode of a request share it: groups of
both are searched that fit into a node together. Rates are asked of a function: DistServe plays requests in a simulator,
`simulate/serving/simulated_rate.py` does so too; the queueing model of `capacity.py` is faster and less close.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from stowage.decide.serving.capacity import Bound, Capacity, Shape, Targets, capacity, load_at
from stowage.decide.serving.performance import Curve, Performance, constant

STAGE_SECONDS: Final = 0.001
"""What each stage of a pipeline adds to a step, for sending on; as DistServe's simulator has it."""
_NOTHING_SECONDS: Final = 1e-6
"""Of a prompt that another replica has computed: the shortest step there can be."""


class Role(StrEnum):
    """What a replica does with a request."""

    UNIFIED = "unified"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Split:
    """A way to run one replica.

    Attributes:
        gpu: the accelerator's name.
        tensor: GPUs that share each layer; they are in one node.
        pipeline: stages, each with a part of the layers.
        performance: measured with this `tensor` and one stage, but with the KV capacity of all `gpus`.
    """

    gpu: str
    tensor: int
    pipeline: int
    performance: Performance

    @property
    def gpus(self) -> int:
        """Of one replica."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True)
class Demand:
    """What has to be served: so many requests per second of this shape within these targets."""

    requests_per_second: float
    shape: Shape
    targets: Targets


@dataclass(frozen=True, slots=True)
class Fleet:
    """What there is.

    Attributes:
        gpus: how many of each accelerator.
        gpus_per_node: in nodes of so many.
        is_low_affinity: keys and values do not leave a node fast enough.
        price: of each accelerator per hour; 1 where not named, so that GPUs are counted.
    """

    gpus: Mapping[str, int]
    gpus_per_node: int = 8
    is_low_affinity: bool = True
    price: Mapping[str, float] | None = None

    def tensor_groups(self, split: Split) -> int:
        """How many groups of `split.tensor` GPUs there are, each in one node; the last node may be a smaller one."""
        nodes, rest = divmod(self.gpus.get(split.gpu, 0), self.gpus_per_node)
        return nodes * (self.gpus_per_node // split.tensor) + rest // split.tensor

    def cost(self, gpu: str) -> float:
        """Of one GPU per hour."""
        return (self.price or {}).get(gpu, 1.0)


@dataclass(frozen=True, slots=True)
class Rated:
    """A replica of a role: `requests_per_second` at most within the targets, and what keeps it from more."""

    role: Role
    split: Split
    requests_per_second: float
    bound: Bound

    @property
    def per_gpu(self) -> float:
        """DistServe's goodput per GPU."""
        return self.requests_per_second / self.split.gpus


@dataclass(frozen=True, slots=True)
class Layout:
    """How the GPUs are used.

    Attributes:
        parts: replicas of each role, with how many.
        requests_per_second: that all of them serve within the targets.
        gpus: of each accelerator.
        cost_per_hour: of these.
        meets_demand: whether that is at least the demand; if not, no more of this layout fits.
    """

    parts: tuple[tuple[Rated, int], ...]
    requests_per_second: float
    gpus: Mapping[str, int]
    cost_per_hour: float
    meets_demand: bool

    @property
    def goodput_per_gpu(self) -> float:
        """Requests per second within the targets, by GPU used."""
        return self.requests_per_second / sum(self.gpus.values())


Rate = Callable[[Performance, Shape, Targets], Capacity]
"""The highest rate of one engine for requests of a shape: `capacity`, or whatever finds it more closely."""


def rated(split: Split, role: Role, demand: Demand, rate: Rate = capacity) -> Rated:
    """The highest rate of a replica.

    Prefill alone is bound by the time to first token, decode alone by the time between tokens. In a pipeline of `n`
    stages `n` batches are under way. With decode in them, it serves as `n` engines side by side would, each with an
    `n`-th of the KV cache and a step that passes all stages. Prefill alone is one queue, as in DistServe's section 3: a
    prompt passes all stages, but the next one follows after an `n`-th of that time.
    """
    if role is Role.PREFILL:
        return _prefill(split, demand, rate)
    engine, targets = _engine_of_batch(split), demand.targets
    if role is Role.DECODE:
        engine = replace(engine, prefill_seconds=constant(_NOTHING_SECONDS))
        targets = replace(targets, ttft_seconds=math.inf)
    found = rate(engine, demand.shape, targets)
    return Rated(role, split, split.pipeline * found.requests_per_second, found.bound)


def layouts(splits: Sequence[Split], demand: Demand, fleet: Fleet, rate: Rate = capacity) -> list[Layout]:
    """The layouts that serve anything, the best first: those that meet the demand, the cheapest, the largest reserve.

    For each split of a replica with both roles, and for each pair of splits with the roles apart, the cheapest number
    of replicas is taken.
    """
    fitting = [split for split in splits if fleet.tensor_groups(split) >= split.pipeline]
    by_role = {role: [one for split in fitting if _serves(one := rated(split, role, demand, rate))] for role in Role}
    found = [_unified(one, demand, fleet) for one in by_role[Role.UNIFIED]]
    for prefill in by_role[Role.PREFILL]:
        for decode in by_role[Role.DECODE]:
            found.extend(_apart(prefill, decode, demand, fleet))
    return sorted(found, key=_rank)


def _serves(one: Rated) -> bool:
    return one.requests_per_second > 0.0


def _rank(one: Layout) -> tuple[float, ...]:
    if one.meets_demand:
        return 0.0, one.cost_per_hour, -one.requests_per_second, len(one.parts)
    return 1.0, -one.requests_per_second, one.cost_per_hour, len(one.parts)


def _engine_of_batch(split: Split) -> Performance:
    """What one of the batches in a pipeline meets."""
    one, sending = split.performance, STAGE_SECONDS * (split.pipeline - 1)
    return replace(
        one,
        prefill_seconds=_shifted(one.prefill_seconds, sending),
        decode_seconds=_shifted(one.decode_seconds, sending),
        kv_capacity_tokens=max(1, one.kv_capacity_tokens // split.pipeline),
    )


def _prefill(split: Split, demand: Demand, rate: Rate) -> Rated:
    shape, targets, stages = (
        replace(demand.shape, output_tokens=1.0, output_variation=0.0),
        demand.targets,
        split.pipeline,
    )
    engine = replace(
        split.performance, prefill_seconds=_shifted(split.performance.prefill_seconds, STAGE_SECONDS * (stages - 1))
    )
    alone = load_at(engine, shape, 0.0, targets.quantile)
    # of the time that a long prompt takes, all but what one stage takes of it delays no other
    beside = alone.ttft_seconds * (1.0 - 1.0 / stages) if alone else math.inf
    if beside >= targets.ttft_seconds:
        return Rated(Role.PREFILL, split, 0.0, Bound.TTFT)
    curve = engine.prefill_seconds
    stage = replace(engine, prefill_seconds=Curve(curve.at, tuple(value / stages for value in curve.values)))
    found = rate(stage, shape, replace(targets, ttft_seconds=targets.ttft_seconds - beside))
    return Rated(Role.PREFILL, split, found.requests_per_second, found.bound)


def _shifted(curve: Curve, seconds: float) -> Curve:
    return Curve(curve.at, tuple(value + seconds for value in curve.values))


def _unified(one: Rated, demand: Demand, fleet: Fleet) -> Layout:
    most = fleet.tensor_groups(one.split) // one.split.pipeline
    return _layout(((one, min(most, _needed(one, demand))),), demand, fleet)


def _apart(prefill: Rated, decode: Rated, demand: Demand, fleet: Fleet) -> Iterator[Layout]:
    """The best number of replicas for a pair of splits; none where the two do not fit."""
    if fleet.is_low_affinity:
        if prefill.split.gpu == decode.split.gpu:
            yield from _best(_in_nodes(prefill, decode, demand, fleet))
        return
    prefills, decodes = _needed(prefill, demand), _needed(decode, demand)
    if _fits(prefill, prefills, decode, decodes, fleet):
        yield _layout(((prefill, prefills), (decode, decodes)), demand, fleet)
        return
    yield from _best(
        _layout(((prefill, count), (decode, beside)), demand, fleet)
        for count in range(1, prefills + 1)
        if (beside := min(decodes, _room(prefill, count, decode, fleet))) > 0
    )


def _in_nodes(prefill: Rated, decode: Rated, demand: Demand, fleet: Fleet) -> Iterator[Layout]:
    """Groups of both roles that fit into a node, or stage by stage into several, as often as the demand takes."""
    nodes, rest = divmod(fleet.gpus[prefill.split.gpu], fleet.gpus_per_node)
    common = math.gcd(prefill.split.pipeline, decode.split.pipeline)
    for spread in (n for n in range(1, common + 1) if common % n == 0):
        room = fleet.gpus_per_node * spread
        for prefills in range(1, room // prefill.split.gpus + 1):
            beside = (room - prefills * prefill.split.gpus) // decode.split.gpus
            for decodes in range(1, beside + 1):
                size = prefills * prefill.split.gpus + decodes * decode.split.gpus
                rate = min(prefills * prefill.requests_per_second, decodes * decode.requests_per_second)
                most = nodes // spread * (room // size) + (rest // size if spread == 1 else 0)
                groups = min(_times(demand.requests_per_second, rate), most)
                if groups:
                    yield _layout(((prefill, groups * prefills), (decode, groups * decodes)), demand, fleet)


def _best(found: Iterable[Layout]) -> Iterator[Layout]:
    best = min(found, key=_rank, default=None)
    if best is not None:
        yield best


def _layout(parts: tuple[tuple[Rated, int], ...], demand: Demand, fleet: Fleet) -> Layout:
    gpus: dict[str, int] = {}
    for one, count in parts:
        gpus[one.split.gpu] = gpus.get(one.split.gpu, 0) + count * one.split.gpus
    served = min(one.requests_per_second * count for one, count in parts)
    cost = sum(fleet.cost(name) * count for name, count in gpus.items())
    return Layout(parts, served, gpus, cost, served >= demand.requests_per_second)


def _needed(one: Rated, demand: Demand) -> int:
    return _times(demand.requests_per_second, one.requests_per_second)


def _times(demand: float, rate: float) -> int:
    """The fewest replicas whose rates, as floats, come to at least the demand."""
    count = max(1, math.ceil(demand / rate))
    return count if count * rate >= demand else count + 1


def _fits(prefill: Rated, prefills: int, decode: Rated, decodes: int, fleet: Fleet) -> bool:
    return decodes <= _room(prefill, prefills, decode, fleet)


def _room(prefill: Rated, prefills: int, decode: Rated, fleet: Fleet) -> int:
    """How many decode replicas fit beside so many for prefill; negative where those do not fit themselves."""
    taken = prefills * prefill.split.gpus
    if prefill.split.gpu != decode.split.gpu:
        return fleet.gpus[decode.split.gpu] // decode.split.gpus if taken <= fleet.gpus[prefill.split.gpu] else -1
    return (fleet.gpus[decode.split.gpu] - taken) // decode.split.gpus
