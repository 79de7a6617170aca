"""Recorded jobs replayed: who starts when, gangs, what is held, and the bound from hindsight."""

from __future__ import annotations

import gzip
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.cli.app import run as run_command
from stowage.simulate import openb
from stowage.simulate.hindsight import most_gpu_hours, most_milli_seconds
from stowage.simulate.jobs import Job, is_philly, philly, philly_nodes, recorded_openb
from stowage.simulate.kube_scheduler import KubeScheduler
from stowage.simulate.live_packer import MOST_MOVES_PER_HOUR, RESTART_SECONDS, LivePacker
from stowage.simulate.openb import TraceError, TraceNode
from stowage.simulate.policies import ByScore, best_fit
from stowage.simulate.replay import Replay, replay
from stowage_scheduler.gpu.devices import Demand

HOUR = 3600
ONE, TWO = Demand(gpu_milli=1000, gpu_count=1), Demand(gpu_milli=1000, gpu_count=2)
TWO_GPUS = (TraceNode("n", 0, 0, 2, ""),)
HEAD = "timestamp,duration,num_gpus,gpu_time,cluster\n"


def run(nodes: tuple[TraceNode, ...], *jobs: Job) -> Replay:
    return replay(nodes, jobs, ByScore("BestFit", best_fit))


def last(hours: int) -> Job:
    """Nothing; it ends the replay."""
    return Job(hours * HOUR, 1, Demand())


@pytest.mark.parametrize(
    ("jobs", "gpu_hours", "wait_hours"),
    [
        pytest.param([Job(0, 2 * HOUR, ONE), last(10)], 2, 0, id="one job runs and goes"),
        pytest.param([Job(0, 9 * HOUR, ONE), last(4)], 4, 0, id="what runs on after the last arrival does not count"),
        pytest.param(
            [Job(0, 2 * HOUR, TWO), Job(HOUR, HOUR, TWO), last(10)], 6, 0.5, id="the second waits for the first"
        ),
        pytest.param(
            [Job(0, 2 * HOUR, ONE), Job(0, HOUR, TWO), Job(0, 2 * HOUR, ONE), last(10)],
            6,
            1.0,
            id="a small one passes a large one that does not fit",
        ),
        pytest.param([Job(0, HOUR, TWO, pods=2), last(4)], 0, 4.0, id="a gang that fits in part does not start"),
        pytest.param(
            [Job(0, HOUR, TWO, pods=2), Job(0, HOUR, TWO), last(3)],
            2,
            2.0,
            id="and what it fits on is left to others",
        ),
        pytest.param(
            [Job(0, 2 * HOUR, TWO), Job(HOUR, HOUR, TWO), Job(5 * HOUR, HOUR, TWO), last(10)],
            8,
            1 / 3,
            id="who comes when there is room again starts at once",
        ),
    ],
)
def test_jobs_wait_run_and_go(jobs: list[Job], gpu_hours: float, wait_hours: float) -> None:
    found = run(TWO_GPUS, *jobs)
    assert found.gpu_hours == gpu_hours
    assert found.mean_wait_seconds == pytest.approx(wait_hours * HOUR)


def test_a_gang_starts_whole_on_two_nodes_and_one_too_large_is_told() -> None:
    nodes = (*TWO_GPUS, TraceNode("m", 0, 0, 2, ""))
    gang, too_large = Job(0, HOUR, TWO, pods=2), Job(0, HOUR, TWO, pods=3)
    found = run(nodes, gang, too_large, last(9))
    assert (found.started, found.never_fit, found.gpu_hours) == (2, 1, 4)


@pytest.mark.parametrize(
    ("jobs", "gpu_hours"),
    [
        pytest.param([], 0, id="no jobs"),
        pytest.param([Job(0, 2 * HOUR, ONE), last(10)], 2, id="no more than was asked for"),
        pytest.param([Job(0, 9 * HOUR, ONE, pods=9), last(4)], 8, id="no more than there is"),
        pytest.param([Job(2 * HOUR, 9 * HOUR, ONE, pods=9), last(4)], 4, id="from the first arrival on"),
        pytest.param(
            [Job(0, HOUR, ONE), Job(2 * HOUR, 9 * HOUR, ONE, pods=9), last(4)], 5, id="both, one after the other"
        ),
    ],
)
def test_the_bound_from_hindsight(jobs: list[Job], gpu_hours: float) -> None:
    assert most_gpu_hours(jobs, 2000) == gpu_hours


TWO_NODES = tuple(TraceNode(name, 8000, 8000, 2, "") for name in ("n", "m"))
RESTART_HOURS = RESTART_SECONDS / HOUR


def even(*jobs: Job, packer: LivePacker | None = None, nodes: tuple[TraceNode, ...] = TWO_NODES) -> Replay:
    """Placed as kube-scheduler does by default."""
    return replay(nodes, jobs, KubeScheduler(), packer=packer, name="Stowage" if packer else "")


def asks(gpus: int, arrival: int, duration: int, pods: int = 1) -> Job:
    return Job(arrival, duration, Demand(1000, 1000, 1000, gpus), pods)


@pytest.mark.parametrize(
    ("jobs", "alone", "packed", "moves"),
    [
        pytest.param(
            [asks(1, 0, 9 * HOUR), asks(1, 0, 9 * HOUR), asks(2, HOUR, 2 * HOUR), last(10)],
            18 + 2,
            18 + 4,
            1,
            id="a job of two GPUs starts at once, and who moves for it still ends in time",
        ),
        pytest.param(
            [asks(1, 0, 9 * HOUR), asks(1, 0, 9 * HOUR), asks(2, HOUR, 2 * HOUR), last(5)],
            10,
            10 + 4 - RESTART_HOURS,
            1,
            id="a restart before the end is lost",
        ),
        pytest.param(
            [asks(2, 0, 9 * HOUR), asks(1, 0, 9 * HOUR), asks(2, HOUR, HOUR), last(5)],
            15,
            15,
            0,
            id="nobody moves where too little is free in all",
        ),
        pytest.param(
            [asks(1, 0, 9 * HOUR, pods=2), asks(1, 0, 9 * HOUR), asks(1, HOUR, HOUR), last(5)],
            16,
            16,
            0,
            id="nobody moves for who finds room",
        ),
    ],
)
def test_the_packer_makes_room_by_moves(jobs: list[Job], alone: float, packed: float, moves: int) -> None:
    assert even(*jobs).gpu_hours == pytest.approx(alone)
    found = even(*jobs, packer=LivePacker(0))
    assert (found.policy, found.moves) == ("Stowage", moves)
    assert found.gpu_hours == pytest.approx(packed)


def test_not_more_moves_in_an_hour_than_a_policy_allows() -> None:
    nodes = tuple(TraceNode(f"n{number:03}", 8000, 8000, 2, "") for number in range(2 * MOST_MOVES_PER_HOUR + 20))
    ones = [asks(1, 0, 9 * HOUR) for _ in nodes]
    twos = [asks(2, HOUR + number, 9 * HOUR) for number in range(len(nodes) // 2)]
    end = Job(2 * HOUR - 1, 1, Demand())
    assert even(*ones, *twos, end, nodes=nodes).started == len(ones) + 1
    found = even(*ones, *twos, end, packer=LivePacker(0), nodes=nodes)
    assert found.moves == MOST_MOVES_PER_HOUR
    assert found.started == len(ones) + MOST_MOVES_PER_HOUR + 1


small_jobs = st.lists(
    st.builds(Job, st.integers(0, 3), st.integers(1, 3), st.sampled_from((ONE, TWO)), st.integers(1, 2)),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(small_jobs)
def test_no_schedule_and_no_policy_holds_more_than_the_bound(jobs: list[Job]) -> None:
    jobs = sorted(jobs, key=lambda job: job.arrival_seconds)
    first, end = jobs[0].arrival_seconds, jobs[-1].arrival_seconds
    best = 0
    for starts in product(*(range(job.arrival_seconds, end + 1) for job in jobs)):
        held = [0] * (end + 1)
        for job, start in zip(jobs, starts, strict=True):
            for second in range(start, min(end, start + job.duration_seconds)):
                held[second] += job.gpu_milli
        if all(amount <= 4000 for amount in held):
            best = max(best, sum(held))
    bound = most_milli_seconds(jobs, 4000)
    assert best <= bound <= 4000 * (end - first)
    for packer in (None, LivePacker(0)):
        found = even(*jobs, packer=packer)
        assert round(found.gpu_hours * 1000 * HOUR) <= bound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "2017-09-04 10:00:00,3600.0,1,3600,a\n2017-09-04 09:00:00,7200.0,12,86400,a\n2017-09-04 11:00:00,60,1,60,a\n"
    (tmp_path / "philly_jobs_x.csv.gz").write_bytes(gzip.compress((HEAD + rows).encode()))
    return tmp_path


def test_philly_jobs_are_read_in_order_of_arrival_and_large_ones_as_gangs(folder: Path) -> None:
    assert is_philly(folder)
    first, second, _ = philly(folder)
    assert first == Job(0, 7200, Demand(100, 200, 1000, 6), pods=2)
    assert second == Job(3600, 3600, Demand(100, 200, 1000, 1))
    assert [node.gpus for node in philly_nodes(2)] == [8, 8]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"no gzip", "Not a gzipped file", id="not packed"),
        pytest.param(gzip.compress(b"timestamp\n"), "no column duration, num_gpus", id="columns are missing"),
        pytest.param(gzip.compress(f"{HEAD}soon,1,1,1,a\n".encode()), "line 2: .*soon", id="no time"),
        pytest.param(gzip.compress(f"{HEAD}2017-09-04,1,0,1,a\n".encode()), "num_gpus is 0", id="no GPUs"),
        pytest.param(gzip.compress(f"{HEAD}2017-09-04,1,9,1,a\n".encode()), "num_gpus is 9", id="uneven gang"),
    ],
)
def test_a_philly_file_that_is_wrong_is_told_where(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "philly_jobs_x.csv.gz").write_bytes(content)
    with pytest.raises(TraceError, match=words):
        philly(tmp_path)


def test_openb_pods_run_from_their_start_or_arrival(tmp_path: Path) -> None:
    head = f"{','.join(openb.POD_COLUMNS)},creation_time,deletion_time,scheduled_time\n"
    lines = "1,1,1,500,,100,400,150\n1,1,0,0,,50,80,\n1,1,0,0,,60,60,60\n"
    (tmp_path / openb.PODS).write_text(head + lines)
    assert recorded_openb(tmp_path) == (Job(0, 30, Demand(1, 1)), Job(50, 250, Demand(1, 1, 500, 1)))


def test_the_command_prints_regret(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "packing", "--trace", str(folder), "--nodes", "2", "--policy", "BestFit"]
    assert run_command([*command, "-o", "json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["gpus"] == 16
    assert answer["gpuHoursBound"] == 25.0
    assert answer["policies"][0]["regretPercent"] == 0
    assert run_command([*command, "--policy", "Stowage", "-o", "json"]) == 0
    best_fit, ours = json.loads(capsys.readouterr().out)["policies"]
    assert (best_fit["policy"], ours["policy"], ours["moves"]) == ("BestFit", "Stowage", 0)
    assert run_command(command) == 0
    assert "no schedule of these jobs holds more than 25 GPU hours on 16 GPUs" in capsys.readouterr().out
    assert run_command([*command, "--plot", "curves.png"]) == 2
    assert "--plot: there are curves of a fill-up alone" in capsys.readouterr().err
