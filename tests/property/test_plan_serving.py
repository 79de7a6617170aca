"""Layouts for a model on given GPUs: what holds of each, and how they answer to more GPUs, demand and patience."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.decide.serving.capacity import Shape, Targets
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.plan_serving import Demand, Fleet, Layout, Role, Split, layouts, rated


def split(gpu: str, tensor: int, pipeline: int, speed: float) -> Split:
    """Twice the GPUs share a layer: 1.7 times as fast."""
    faster = speed * 1.7 ** math.log2(tensor)
    engine = Performance(
        prefill_seconds=line(0.02 / faster, 0.0002 / faster),
        decode_seconds=line(0.03 / faster, 0.0003 / faster),
        kv_capacity_tokens=60_000 * tensor * pipeline,
        max_running=64,
    )
    return Split(gpu, tensor, pipeline, engine)


SPLITS = st.lists(
    st.builds(split, st.sampled_from("ab"), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from([1, 2])),
    min_size=1,
    max_size=3,
    unique_by=lambda one: (one.gpu, one.tensor, one.pipeline),
)
DEMANDS = st.builds(
    Demand,
    st.sampled_from([0.5, 3.0, 20.0]),
    st.builds(Shape, st.sampled_from([200, 2000]), st.sampled_from([50, 400]), st.sampled_from([0.0, 1.0])),
    st.builds(Targets, st.sampled_from([0.5, 2.0]), st.sampled_from([0.03, 0.1])),
)
FLEETS = st.builds(
    Fleet,
    st.fixed_dictionaries({"a": st.sampled_from([0, 2, 8, 13]), "b": st.sampled_from([4, 16])}),
    st.sampled_from([2, 4, 8]),
    st.booleans(),
    st.sampled_from([None, {"a": 2.5}]),
)


def groups_fit(layout: Layout, fleet: Fleet) -> bool:
    """With low affinity: some number of equal groups, each in one node or spread stage by stage over several."""
    (prefill, prefills), (decode, decodes) = layout.parts
    nodes, rest = divmod(fleet.gpus[prefill.split.gpu], fleet.gpus_per_node)
    for count in range(1, math.gcd(prefills, decodes) + 1):
        if prefills % count or decodes % count:
            continue
        size = prefills // count * prefill.split.gpus + decodes // count * decode.split.gpus
        for spread in range(1, math.gcd(prefill.split.pipeline, decode.split.pipeline) + 1):
            if prefill.split.pipeline % spread or decode.split.pipeline % spread:
                continue
            room = fleet.gpus_per_node * spread
            in_the_last = rest // size if spread == 1 else 0
            if count <= room // size * (nodes // spread) + in_the_last:
                return True
    return False


@settings(max_examples=40)
@given(SPLITS, DEMANDS, FLEETS)
def test_every_layout_is_what_it_says(splits: list[Split], demand: Demand, fleet: Fleet) -> None:
    found = layouts(splits, demand, fleet)
    for layout in found:
        roles = [one.role for one, _ in layout.parts]
        assert roles in ([Role.UNIFIED], [Role.PREFILL, Role.DECODE])
        served = min(one.requests_per_second * count for one, count in layout.parts)
        assert layout.requests_per_second == served > 0
        assert layout.meets_demand == (served >= demand.requests_per_second)
        gpus = dict.fromkeys(layout.gpus, 0)
        for one, count in layout.parts:
            assert count >= 1
            gpus[one.split.gpu] += count * one.split.gpus
            assert one.split.tensor <= fleet.gpus_per_node
        assert gpus == layout.gpus
        assert all(count <= fleet.gpus[name] for name, count in gpus.items())
        assert math.isclose(layout.cost_per_hour, sum(fleet.cost(name) * count for name, count in gpus.items()))
        if fleet.is_low_affinity and len(roles) == 2:
            assert layout.parts[0][0].split.gpu == layout.parts[1][0].split.gpu
            assert groups_fit(layout, fleet)


@settings(max_examples=40)
@given(SPLITS, DEMANDS, FLEETS)
def test_the_best_come_first_and_none_is_larger_than_it_has_to_be(
    splits: list[Split], demand: Demand, fleet: Fleet
) -> None:
    found = layouts(splits, demand, fleet)
    assert [one.meets_demand for one in found] == sorted((one.meets_demand for one in found), reverse=True)
    costs = [one.cost_per_hour for one in found if one.meets_demand]
    assert costs == sorted(costs)
    for layout in found:
        if layout.meets_demand and (len(layout.parts) == 1 or not fleet.is_low_affinity):
            for one, count in layout.parts:
                assert one.requests_per_second * (count - 1) < demand.requests_per_second


@settings(max_examples=30)
@given(SPLITS, DEMANDS, FLEETS, st.integers(1, 2))
def test_more_gpus_never_make_the_answer_worse(splits: list[Split], demand: Demand, fleet: Fleet, more: int) -> None:
    larger = replace(
        fleet, gpus={name: count + more * fleet.gpus_per_node if count else 0 for name, count in fleet.gpus.items()}
    )
    before, after = layouts(splits, demand, fleet), layouts(splits, demand, larger)
    if not before:
        return
    assert after
    if before[0].meets_demand:
        assert after[0].meets_demand
        assert after[0].cost_per_hour <= before[0].cost_per_hour
    else:
        assert after[0].meets_demand or after[0].requests_per_second >= before[0].requests_per_second


@settings(max_examples=30)
@given(SPLITS, DEMANDS, st.sampled_from(Role))
def test_looser_targets_never_lower_the_rate_and_a_role_alone_has_the_higher_one(
    splits: list[Split], demand: Demand, role: Role
) -> None:
    for one in splits:
        tight = rated(one, role, demand).requests_per_second
        patient = replace(demand.targets, ttft_seconds=2 * demand.targets.ttft_seconds)
        slow = replace(demand.targets, itl_seconds=2 * demand.targets.itl_seconds)
        for targets in (patient, slow):
            assert rated(one, role, replace(demand, targets=targets)).requests_per_second >= tight * (1 - 1e-9)
        assert tight >= rated(one, Role.UNIFIED, demand).requests_per_second * (1 - 1e-9)


@given(SPLITS, DEMANDS)
@settings(max_examples=20)
def test_each_role_is_bound_by_its_own_target_alone(splits: list[Split], demand: Demand) -> None:
    for one in splits:
        slow = replace(demand, targets=replace(demand.targets, itl_seconds=1e-9))
        assert rated(one, Role.PREFILL, slow) == rated(one, Role.PREFILL, demand)
        late = replace(demand, targets=replace(demand.targets, ttft_seconds=1e-9))
        assert rated(one, Role.DECODE, late) == rated(one, Role.DECODE, demand)
