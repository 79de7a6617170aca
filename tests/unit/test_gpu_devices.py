"""Devices: what fits on which, and requests that make no sense."""

from __future__ import annotations

import pytest

from stowage_scheduler.gpu.devices import Demand, best_fit, fits, options, place, remove
from stowage_scheduler.gpu.workload import Workload, typical


def share(milli: int) -> Demand:
    return Demand(gpu_milli=milli, gpu_count=1)


def whole(count: int) -> Demand:
    return Demand(gpu_milli=1000, gpu_count=count)


NO_GPU = Demand(cpu_milli=100)


@pytest.mark.parametrize(
    ("free", "demand", "choices", "best"),
    [
        pytest.param((1000, 500), NO_GPU, [()], (), id="a pod without GPUs takes no device"),
        pytest.param((), NO_GPU, [()], (), id="and runs where there are none"),
        pytest.param((1000, 500, 200), share(300), [(0,), (1,)], (1,), id="a share goes where least is left"),
        pytest.param((500, 500), share(500), [(0,)], (0,), id="devices with the same amount free are one choice"),
        pytest.param((600, 400), share(700), [], None, id="a share does not span devices"),
        pytest.param((999, 1000, 1000), whole(2), [(1, 2)], (1, 2), id="whole devices are the first empty ones"),
        pytest.param((999, 1000, 1000), whole(3), [], None, id="a device in use is not a whole one"),
        pytest.param((), share(1), [], None, id="no devices, no share"),
    ],
)
def test_choices_of_devices(
    free: tuple[int, ...], demand: Demand, choices: list[tuple[int, ...]], best: tuple[int, ...] | None
) -> None:
    assert options(free, demand) == choices
    assert best_fit(free, demand) == best
    assert fits(free, demand) is bool(choices)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param({"gpu_milli": 1500, "gpu_count": 1}, "share of one device", id="more of a device than it has"),
        pytest.param({"gpu_milli": 500, "gpu_count": 2}, "share of one device", id="shares of two devices"),
        pytest.param({"gpu_milli": 500}, "go together", id="a share of no device"),
        pytest.param({"gpu_count": 1}, "go together", id="a device and nothing of it"),
        pytest.param({"cpu_milli": -1}, "not negative", id="negative CPU"),
    ],
)
def test_a_demand_that_no_device_can_meet_is_refused(wrong: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Demand(**wrong)


@pytest.mark.parametrize(
    ("free", "demand", "devices", "words"),
    [
        pytest.param((500,), share(600), (0,), "500 milli free", id="too little free"),
        pytest.param((1000, 1000), whole(2), (0,), "asks for 2 devices", id="too few devices"),
        pytest.param((1000, 1000), whole(2), (1, 1), "asks for 2 devices", id="a device named twice"),
    ],
)
def test_a_pod_is_not_put_where_it_does_not_fit(
    free: tuple[int, ...], demand: Demand, devices: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        place(free, demand, devices)


def test_a_pod_that_was_not_there_does_not_leave() -> None:
    with pytest.raises(ValueError, match="1100 milli free"):
        remove((900,), share(200), (0,))


def test_the_typical_workload_is_the_most_frequent_part() -> None:
    seen = [share(100)] * 6 + [share(200)] * 3 + [NO_GPU]
    assert typical(seen, percent=90) == Workload((share(100), share(200)), (6, 3))
    assert typical(seen, percent=91).weights == (6, 3, 1)
    with pytest.raises(ValueError, match="percent is 0"):
        typical(seen, percent=0)


def test_pods_that_differ_in_memory_alone_are_one_kind_without_memory() -> None:
    seen = [Demand(memory_mib=1), Demand(memory_mib=2)]
    assert typical(seen, memory=False) == Workload((Demand(),), (2,))
    assert len(typical(seen).demands) == 2


def test_cpu_per_gpu_counts_pods_with_gpus_alone() -> None:
    seen = [Demand(cpu_milli=5000, gpu_milli=500, gpu_count=1), Demand(cpu_milli=7000, gpu_milli=1000, gpu_count=1)]
    assert typical([*seen, Demand(cpu_milli=90_000)]).cpu_per_gpu_milli == 8000
    assert typical([NO_GPU]).cpu_per_gpu_milli == 0
