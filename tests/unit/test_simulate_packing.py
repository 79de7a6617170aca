"""The fill-up protocol on a small made-up trace: arrivals, policies, moves, bounds, and the command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stowage.cli.app import run as run_command
from stowage.simulate import openb
from stowage.simulate.ceiling import ceiling, first_arrivals, held_percent
from stowage.simulate.fill_up import Arrivals, arrivals, fill_up
from stowage.simulate.gpu_cluster import Choice, GpuCluster
from stowage.simulate.openb import Trace, TraceError, TraceNode
from stowage.simulate.plots import mean_curves
from stowage.simulate.policies import OURS, policies
from stowage.simulate.report import document, summaries
from stowage_scheduler.gpu.devices import Demand

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,32000,65536,4,T4\nn0,16000,65536,2,V100\nn2,64000,65536,2,T4\n"
PODS_HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"
PODS = PODS_HEAD + "".join(
    f"p{number},{cpu},{memory},{gpus},{milli},{models},LS\n"
    for number, (cpu, memory, gpus, milli, models) in enumerate(
        [
            (8000, 4096, 1, 1000, ""),
            (4000, 4096, 1, 470, ""),
            (3000, 2048, 1, 810, ""),
            (12000, 8192, 0, 0, ""),
            (2000, 1024, 1, 320, "V100|T4"),
            (2000, 1024, 1, 230, ""),
            (16000, 9000, 2, 1000, "T4"),
            (1000, 1024, 1, 160, ""),
        ]
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / openb.NODES).write_text(NODES)
    (tmp_path / openb.PODS).write_text(PODS)
    return tmp_path


@pytest.fixture
def trace(folder: Path) -> Trace:
    return openb.read(folder)


def test_a_trace_is_read(trace: Trace) -> None:
    assert [node.name for node in trace.nodes] == ["n0", "n1", "n2"]
    assert trace.gpu_milli == 8000
    assert trace.pods[1] == Demand(4000, 4096, 470, 1)
    assert trace.pods[3] == Demand(12000, 8192)
    assert trace.pods[4].models == {"V100", "T4"}


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        pytest.param(openb.NODES, None, "No such file", id="no nodes"),
        pytest.param(openb.PODS, "name,cpu_milli\n", "no column gpu_milli, gpu_spec", id="columns are missing"),
        pytest.param(openb.PODS, PODS_HEAD + "p,x,1,1,500,,LS\n", "line 2: cpu_milli is 'x'", id="no number"),
        pytest.param(openb.PODS, PODS_HEAD + "p,-1,1,1,500,,LS\n", "line 2: cpu_milli is -1", id="negative"),
        pytest.param(openb.PODS, PODS_HEAD + "p,1,1,2,500,,LS\n", "line 2: .*whole ones", id="shares of two devices"),
        pytest.param(openb.PODS, PODS_HEAD, "has no pods", id="no pods"),
        pytest.param(openb.PUBLISHED, "policy,seed\n", "no column arrived_gpu_pct", id="published figures"),
    ],
)
def test_a_trace_that_is_wrong_is_told_where(folder: Path, file: str, text: str | None, words: str) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    read = openb.published if file == openb.PUBLISHED else openb.read
    with pytest.raises(TraceError, match=words):
        read(folder)


def test_arrivals_are_the_whole_trace_and_then_draws_up_to_the_load(trace: Trace) -> None:
    run = arrivals(trace, load=1.3, seed=7)
    asked = sum(pod.total_milli for pod in run.pods)
    assert 1.3 * trace.gpu_milli - 2000 < asked <= 1.3 * trace.gpu_milli
    assert Counter(run.pods[: len(trace.pods)]) == Counter(trace.pods)
    assert Counter(run.nodes) == Counter(trace.nodes)
    assert arrivals(trace, load=1.3, seed=7) == run
    assert arrivals(trace, load=1.3, seed=8).pods != run.pods
    small = arrivals(trace, load=0.3, seed=7)
    assert sum(pod.total_milli for pod in small.pods) <= 0.3 * trace.gpu_milli


@pytest.mark.parametrize("policy", ["Random", "DotProd", "GpuPacking", "BestFit", "FGD", OURS])
def test_every_policy_places_what_fits_and_its_own_place_has_room(trace: Trace, policy: str) -> None:
    run = arrivals(trace, load=1.3, seed=1)
    outcome = fill_up(run, policies(trace)[policy]())
    held = sum(pod.total_milli for pod, kept in zip(run.pods, outcome.kept, strict=True) if kept)
    assert outcome.allocated_percent == pytest.approx(100 * held / trace.gpu_milli)
    assert outcome.placed + outcome.dropped == len(run.pods)
    assert 60 < outcome.allocated_percent <= 100
    assert [outcome.curve[0].arrived_percent, outcome.curve[-1].arrived_percent] == [5, 130]
    assert outcome.curve[-1].allocated_percent == outcome.allocated_percent
    # a pod that was dropped while nothing had been turned away yet found no room on any node
    first = outcome.kept.index(False)
    assert all(outcome.kept[:first])


@pytest.mark.parametrize(
    ("others", "exchanges"),
    [
        pytest.param(40, 1, id="two moves are within 5 % of the pods placed"),
        pytest.param(30, 0, id="one move is, and an exchange takes two"),
    ],
)
def test_moves_place_no_fewer_pods_and_keep_within_their_share(others: int, exchanges: int) -> None:
    first, small, large, tiny = (Demand(1000, 1, milli, 1) for milli in (600, 300, 700, 200))
    node = TraceNode("n", 64000, 64, 2, "T4")
    # (600, 300) and (700, 200) leave 100 each; were 300 and 200 to change places, another 200 would fit
    pods = (first, small, large, tiny, *(Demand() for _ in range(others)), tiny)
    run = Arrivals((node,), pods, 0, 1.0)
    make = policies(Trace((node,), pods))[OURS]
    still, moved = fill_up(run, make()), fill_up(run, make(), most_moves_percent=5)
    assert moved.placed >= still.placed
    assert moved.moved.moves <= 0.05 * moved.placed
    assert (still.dropped, moved.dropped, moved.moved.exchanges) == (1, 1 - exchanges, exchanges)


def test_no_run_reaches_its_ceiling_and_the_second_binds_who_turned_nobody_away(trace: Trace) -> None:
    for seed in range(3):
        run = arrivals(trace, load=1.3, seed=seed)
        limit = ceiling(run)
        assert limit.welcoming_percent <= limit.any_percent <= 100
        outcome = fill_up(run, policies(trace)["FGD"]())
        assert outcome.allocated_percent <= limit.any_percent
        kept = Counter(pod for pod, has_place in zip(run.pods, outcome.kept, strict=True) if has_place)
        assert outcome.allocated_percent <= held_percent(run, kept) <= limit.any_percent


def test_first_arrivals_end_before_the_load_is_exceeded(trace: Trace) -> None:
    run = arrivals(trace, load=1.3, seed=0)
    first = first_arrivals(run, 50)
    assert sum(pod.total_milli * count for pod, count in first.items()) <= 0.5 * trace.gpu_milli
    assert first_arrivals(run, 200) == Counter(run.pods)


@pytest.mark.parametrize(
    ("demand", "choice"),
    [
        pytest.param(Demand(17000), Choice(0, ()), id="too little CPU"),
        pytest.param(Demand(0, 99999), Choice(0, ()), id="too little memory"),
        pytest.param(Demand(0, 0, 500, 1), Choice(0, (2,)), id="no such device on the node"),
        pytest.param(Demand(0, 0, 500, 1), Choice(0, ()), id="no device named"),
        pytest.param(Demand(0, 0, 1000, 2), Choice(0, (1, 1)), id="a device named twice"),
    ],
)
def test_a_cluster_takes_nothing_that_does_not_fit(trace: Trace, demand: Demand, choice: Choice) -> None:
    cluster = GpuCluster(trace.nodes)
    with pytest.raises(ValueError, match=r"would be free|asks for"):
        cluster.place(demand, choice)
    assert np.array_equal(cluster.room.free_milli, cluster.capacity.free_milli)


def test_who_was_not_there_does_not_leave(trace: Trace) -> None:
    with pytest.raises(ValueError, match="would be free"):
        GpuCluster(trace.nodes).remove(Demand(1000), Choice(0, ()))


def test_a_report_has_means_published_figures_and_regret(trace: Trace) -> None:
    runs = [arrivals(trace, load=1.3, seed=seed) for seed in (1, 2)]
    outcomes = [fill_up(run, policies(trace)["FGD"]()) for run in runs]
    published = {("FGD", 1, 130): 90.0, ("FGD", 2, 130): 92.0, ("FGD", 1, 95): 1.0}
    [one] = summaries(outcomes, [ceiling(run) for run in runs], published)
    assert one.mean_percent == pytest.approx(sum(o.allocated_percent for o in outcomes) / 2)
    assert one.published_percent == 91.0
    assert one.regret_percent is not None
    assert one.regret_percent >= 0
    [bare] = summaries(outcomes, [], {})
    assert (bare.published_percent, bare.regret_percent) == (None, None)
    assert json.loads(json.dumps(document(outcomes, [], published)))["runs"][1]["seed"] == 2
    assert mean_curves(outcomes)["FGD"][-1] == (130, pytest.approx(one.mean_percent))


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(["simulate", "packing", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_prints_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(
        capsys, "--trace", str(folder), "--seed", "1", "--policy", OURS, "--moves", "5", "--load", "1.2", "-o", "json"
    )
    answer: dict[str, Any] = json.loads(out)
    assert code == 0
    assert [one["policy"] for one in answer["policies"]] == [OURS, f"{OURS}+5%"]
    assert answer["bounds"][0]["anyPercent"] >= answer["policies"][0]["allocatedPercent"]["mean"]


def test_the_command_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "--trace", str(folder), "--seed", "1")
    assert code == 0
    assert "FGD" in out
    assert "no placement of these pods holds more than" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--policy", "Best"), "--policy Best: known are Random, DotProd", id="no such policy"),
        pytest.param(("--plot", "picture.pdf"), "--plot picture.pdf: the name must end in .png", id="no PNG"),
        pytest.param(("--trace", "nowhere"), "No such file or directory", id="no such folder"),
    ],
)
def test_wrong_use_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = called(capsys, "--trace", str(folder), *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_picture_is_drawn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curves.png"
    code, _, _ = called(capsys, "--trace", str(folder), "--seed", "1", "--policy", "FGD", "--plot", str(picture))
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
