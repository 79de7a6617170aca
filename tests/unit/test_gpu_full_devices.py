"""Sixteen GPUs of one node, shared to the full: shares that fit are found to, or it is said that not all was tried."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Snapshot
from stowage_scheduler.devices.fit import Standing, fits
from stowage_scheduler.rules import Outcome, gpu_shares

GPU = "nvidia.com/gpu"


def cut(chance: Random, pieces: tuple[int, int], step: int, unused: int = 0) -> list[int]:
    """Sixteen devices cut into shares at random, all but up to `unused` thousandths of each."""
    shares: list[int] = []
    for _ in range(16):
        used = 1000 - chance.randint(0, unused) // step * step
        marks = sorted(chance.sample(range(1, used // step), chance.randint(*pieces) - 1))
        edges = [0, *(mark * step for mark in marks), used]
        shares += [after - before for before, after in pairwise(edges)]
    return chance.sample(shares, len(shares))


def clustered(shares: list[int]) -> Snapshot:
    waiting = (pod(f"x{n}-0", 10, gpu_share=GpuShare(((GPU_MILLI, milli),))) for n, milli in enumerate(shares))
    return snapshot(node("a", 64_000, extra={GPU: 16}), *waiting)


SHARED = [
    pytest.param(3, (2, 4), 25, 0, id="parts-of-a-fortieth-to-the-last-one"),
    pytest.param(7, (3, 6), 10, 0, id="parts-of-a-hundredth-to-the-last-one"),
    pytest.param(11, (2, 4), 1, 20, id="thousandths-and-one-in-a-hundred-left"),
    pytest.param(14, (2, 4), 1, 0, id="thousandths-to-the-last-one"),
]


@pytest.mark.parametrize(("seed", "pieces", "step", "unused"), SHARED)
def test_what_fits_is_found_to(seed: int, pieces: tuple[int, int], step: int, unused: int) -> None:
    shares = cut(Random(seed), pieces, step, unused)
    assert fits(Standing(16, (1000,)), 0, tuple(sorted((milli,) for milli in shares)))
    outcome = Outcome(clustered(shares), OPTIONS, {f"uid-x{n}-0": "a" for n in range(len(shares))})
    assert list(gpu_shares.GpuShares().check(outcome)) == []


def test_all_of_them_get_a_place() -> None:
    shares = cut(Random(3), (2, 4), 25)
    packing = packed(clustered(shares))
    assert packing.faults == ()
    assert len(places(packing)) == len(shares)
    assert packing.certified


def test_a_search_that_was_given_up_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [600, 300, 300, 400, 200, 200] * 4
    outcome = Outcome(clustered(shares), OPTIONS, {f"uid-x{n}-0": "a" for n in range(len(shares))})
    assert list(gpu_shares.GpuShares().check(outcome)) == []
    monkeypatch.setattr(gpu_shares, "_MOST_SITUATIONS", -1)
    (violation,) = gpu_shares.GpuShares().check(outcome)
    assert violation.detail.startswith("too many ways to try devices for default/x0-0, ")


def test_one_share_too_many_is_told_as_no_device() -> None:
    outcome = Outcome(clustered([600] * 17), OPTIONS, {f"uid-x{n}-0": "a" for n in range(17)})
    (violation,) = gpu_shares.GpuShares().check(outcome)
    assert violation.detail.startswith("no devices for ")
