"""`stowage simulate serving`: the stable answer, and what is wrong with input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.small_traces import setup, trace
from stowage.cli.app import run as run_command
from stowage.simulate.serving.baselines.oracle import Effort
from stowage.simulate.serving.comparison import ONLINE, ORACLE, OURS, POLICIES, STATIC, Comparison, compare
from stowage.simulate.serving.comparison_plots import colours, draw, pareto_front, replicas_held
from stowage.simulate.serving.comparison_report import HEADS, document, rows, verdict

NAMES = ["stowage", "oracle", "static-best", "hpa", "kpa", "keda", "wva-v1", "wva-v2", "dynamo", "llumnix"]
STABLE = {
    *("attainment", "gpuHours", "completed", "rejected", "unfinished"),
    *("p99TtftSeconds", "p99ItlSeconds", "scaleEvents"),
}
QUICK = Effort(most_runs=10, slot_seconds=30.0)
PROFILE = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel\n" + "".join(
    f"llama2-70b,{gpu},{prompt},{batch},128,{prompt * batch * 0.5 + 50},{40 + batch},8\n"
    for gpu in ("h100-80gb", "a100-80gb")
    for prompt, batch in ((128, 1), (512, 1), (2048, 1), (128, 8), (128, 32))
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    profile, requests = tmp_path / "profile.csv", tmp_path / "trace.csv"
    profile.write_text(PROFILE)
    arrivals = trace([1, 3, 5, 1], seed=1).arrival_seconds
    lines = (f"2023-11-16 18:{15 + int(at // 60):02}:{at % 60:010.7f},400,30" for at in arrivals)
    requests.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n")
    return requests, profile


def arguments(files: tuple[Path, Path], *more: str) -> list[str]:
    return [
        *("simulate", "serving", "--trace", str(files[0]), "--profile", str(files[1]), "--gpus-per-replica", "8"),
        *("--profile-select", "hardware=h100-80gb", "--slo-ttft", "2s", "--slo-itl", "100ms", *more),
    ]


def test_the_stable_answer_names_all_policies_and_figures(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(
        files, "--cold-start", "60s", "--rate-scale", "2", "--policies", "all", "--seed", "7", "-o", "json"
    )
    assert run_command(given) == 0
    first = capsys.readouterr()
    answer = json.loads(first.out)
    assert set(answer) == {"requests", "policies"}
    assert set(NAMES) <= set(answer["policies"]) == set(POLICIES)
    for figures in answer["policies"].values():
        assert set(figures) >= STABLE
        assert figures["completed"] + figures["rejected"] + figures["unfinished"] == answer["requests"]
        assert figures["attainment"] <= figures["completed"] / answer["requests"] + 1e-6
    assert run_command(given) == 0
    assert capsys.readouterr().out == first.out, "same seed, same answer"


def test_some_policies_by_name_in_the_order_of_answers(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(files, "--policies", "hpa, stowage", "-o", "json")) == 0
    assert list(json.loads(capsys.readouterr().out)["policies"]) == ["stowage", "hpa"]


def test_a_part_of_the_trace(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arrivals = trace([1, 3, 5, 1], seed=1).arrival_seconds
    arrivals = arrivals - arrivals[0]
    given = ("--policies", "hpa", "--start", "30s", "--length", "1m", "-o", "json")
    assert run_command(arguments(files, *given)) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == ((arrivals >= 30) & (arrivals < 90)).sum()
    assert run_command(arguments(files, "--start", "2h")) == 2
    assert "no request from 7200 s on" in capsys.readouterr().err


def test_the_table_and_the_picture(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    assert run_command(arguments(files, "--policies", "hpa,static-best,kpa", "--plot", str(picture))) == 0
    shown = capsys.readouterr().out
    assert "static-best" in shown
    assert "GPU hours" in shown
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_targets_that_nobody_can_keep_are_told_as_they_are(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(files, "--slo-ttft", "1ms", "--policies", "oracle,static-best,hpa", "-o", "json")) == 0
    for figures in json.loads(capsys.readouterr().out)["policies"].values():
        assert figures["attainment"] == 0.0
        assert figures["completed"] > 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param(
            ["--policies", "hpa,vpa"], "--policies 'vpa': known are stowage, oracle, static-best", id="policy"
        ),
        pytest.param(["--policies", ""], "--policies '': known are", id="no policy"),
        pytest.param(["--slo-ttft", "2"], "--slo-ttft '2'", id="a duration without a unit"),
        pytest.param(["--slo-itl", "0s"], "--slo-itl 0s: must be more than 0s", id="no time at all"),
        pytest.param(["--start", "30h"], "no request from 108000 s on", id="the second day of a trace of an hour"),
        pytest.param(["--start", "745h"], "--start 745h: must be more than 0s and at most 744h", id="after a month"),
        pytest.param(["--rate-scale", "0"], "--rate-scale 0", id="no requests"),
        pytest.param(["--rate-scale", "nan"], "--rate-scale nan", id="no number"),
        pytest.param(["--profile-select", "hardware"], "--profile-select hardware", id="no value to select by"),
        pytest.param(["--profile-select", "hardware=t4"], "t4", id="nothing selected"),
        pytest.param(["--plot", "picture.svg"], "must end in .png", id="form of the picture"),
        pytest.param(["--plot", "none/a.png"], "--plot none/a.png: there is no folder none", id="place of the picture"),
    ],
)
def test_wrong_input_is_refused_with_the_option(
    files: tuple[Path, Path], more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(files, *more)) == 2
    seen = capsys.readouterr()
    assert words in seen.err
    assert not seen.out


def test_a_file_that_is_not_there_or_holds_several_profiles(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments((files[0].with_name("none.csv"), files[1]))) == 2
    assert "none.csv" in capsys.readouterr().err
    several = [word for word in arguments(files) if word not in ("--profile-select", "hardware=h100-80gb")]
    assert run_command(several) == 2
    assert "hardware" in capsys.readouterr().err


@pytest.fixture(scope="module")
def compared() -> Comparison:
    requests = trace([2, 2, 6, 9, 4, 2, 2, 2, 2, 2, 2, 2], seed=8)
    return compare(requests, setup(cold_start_seconds=40.0), effort=QUICK)


def test_all_begin_with_the_size_that_the_first_five_minutes_need(compared: Comparison) -> None:
    for outcome in compared.outcomes.values():
        at_first = sum(life.asked_at == 0.0 for life in outcome.lives)
        assert at_first == compared.setup.initial or outcome is compared.outcomes[STATIC]


def test_the_oracle_is_not_beaten_by_any_that_attains_as_much(compared: Comparison) -> None:
    oracle = compared.outcomes[ORACLE]
    assert oracle.attainment >= 0.99
    for outcome in compared.outcomes.values():
        assert outcome.attainment < 0.99 or outcome.gpu_hours >= oracle.gpu_hours


def test_the_document_and_the_rows_tell_of_every_policy(compared: Comparison) -> None:
    told: dict[str, Any] = document(compared)["policies"]
    assert list(told) == list(POLICIES)
    table = rows(compared)
    assert {row[0] for row in table} == set(POLICIES)
    assert all(len(row) == len(HEADS) for row in table)
    costs = [told[row[0]]["gpuHours"] for row in table]
    assert costs == sorted(costs)


def test_the_verdict_compares_with_the_cheapest_on_line_baseline_that_attains(compared: Comparison) -> None:
    found = verdict(compared, 0.99)
    assert found is not None
    online = {name: one for name, one in compared.outcomes.items() if name in ONLINE and one.attainment >= 0.99}
    ours = compared.outcomes[OURS]
    if online:
        assert found.best_online in online
        least = min(one.gpu_hours for one in online.values())
        assert found.saved_percent == pytest.approx(100 * (1 - ours.gpu_hours / least))
    for name in found.dominated_by:
        assert compared.outcomes[name].gpu_hours <= ours.gpu_hours
        assert compared.outcomes[name].attainment >= ours.attainment
    without = Comparison(compared.requests, compared.setup, compared.targets, {STATIC: compared.outcomes[STATIC]})
    assert verdict(without, 0.99) is None


def test_the_front_holds_whom_nobody_dominates(compared: Comparison) -> None:
    front = pareto_front(compared.outcomes)
    for name, one in compared.outcomes.items():
        better = [
            other
            for other in compared.outcomes.values()
            if (other.gpu_hours < one.gpu_hours and other.attainment >= one.attainment)
            or (other.gpu_hours == one.gpu_hours and other.attainment > one.attainment)
        ]
        if not better:
            figures = {(compared.outcomes[at].gpu_hours, compared.outcomes[at].attainment) for at in front}
            assert (one.gpu_hours, one.attainment) in figures, name
        else:
            assert name not in front


def test_replicas_held_are_those_paid_for(compared: Comparison) -> None:
    outcome = compared.outcomes["hpa"]
    at = np.arange(0.0, outcome.end_seconds, 0.25)
    held = replicas_held(outcome, at).sum() * 0.25 / 3600
    assert held == pytest.approx(outcome.gpu_hours, rel=0.01)


def test_colours_differ() -> None:
    assert len(set(colours(POLICIES).values())) >= len(POLICIES) - 1


def test_a_picture_is_drawn_of_any_comparison(compared: Comparison, tmp_path: Path) -> None:
    draw(compared, tmp_path / "all.png", title="all", attainment=0.99)
    assert (tmp_path / "all.png").stat().st_size > 10_000
