"""How fast the cheapest mix of variants is found and proven: 50 sizes of requests on 8 variants."""

from __future__ import annotations

import time
from statistics import median

import pytest

from harness.measurements import Record, at_least, at_most
from harness.mix_instances import arbitrary, roofline
from stowage.decide.serving.mix_problem import MixReason
from stowage.decide.serving.variant_mix import cheapest_mix

BENCH = "variant mix"
PROBLEMS = 40
clock = time.perf_counter


@pytest.mark.parametrize("make", [pytest.param(roofline, id="roofline"), pytest.param(arbitrary, id="arbitrary")])
def test_fifty_sizes_on_eight_variants(make: type, record: Record) -> None:
    name = make.__name__
    seconds, computed, proven = [], [], 0
    for seed in range(PROBLEMS):
        problem = make(seed)
        begin, used = clock(), time.process_time()
        mix = cheapest_mix(problem, seed=seed)
        seconds.append(clock() - begin)
        computed.append(time.process_time() - used)
        proven += mix.reason is MixReason.OPTIMAL
        assert problem.holds(mix.counts, mix.shares)
    record(BENCH, f"{name}: proven optimal", 100 * proven / PROBLEMS, "%", target=at_least(100), problems=PROBLEMS)
    record(BENCH, f"{name}: median", median(seconds), "s", target=at_most(1))
    record(BENCH, f"{name}: longest, CPU", max(computed), "s", target=at_most(1))
    record(BENCH, f"{name}: longest", max(seconds), "s", target=at_most(1))
