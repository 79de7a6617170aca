"""`stowage profile` makes a PerformanceProfile that gives back what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stowage.api.performance_profile import PerformanceProfile
from stowage.cli.app import run
from stowage.decide.serving.profile_resource import performance_of

HEAD = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,"
    "tensor_parallel"
)
ROWS = (
    "llama2-70b,h100-80gb,512,1,128,1,1,53.0,30.1,4000,8",
    "llama2-70b,h100-80gb,2048,1,128,1,1,137.0,30.3,4000,8",
    "llama2-70b,h100-80gb,512,16,128,1,1,600.0,34.0,4000,8",
    "llama2-70b,a100-80gb,512,1,128,1,1,94.0,44.5,6000,8",
)
NAMED = ("--model", "llama2-70b", "--accelerator", "h100-80gb", "--tensor", "8")
SELECT = ("--profile-select", "hardware=h100-80gb")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "perf_model.csv"
    file.write_text("\n".join([HEAD, *ROWS, ""]), encoding="utf-8")
    return file


def test_what_is_printed_can_be_applied_and_says_what_was_measured(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", str(table), "llama2-70b-h100", *NAMED, *SELECT]) == 0
    spec = PerformanceProfile.parse(yaml.safe_load(capsys.readouterr().out)).spec
    found = performance_of(spec)
    assert found.prefill_seconds(512) == pytest.approx(0.053)
    assert found.prefill_seconds(2048) == pytest.approx(0.137)
    assert found.decode_step_seconds(16, 0) == pytest.approx(0.034)
    assert (spec.parallelism.gpus, spec.source) == (8, "perf_model.csv, hardware h100-80gb")
    assert spec.kv_cache_tokens > 100_000


def test_over_how_many_gpus_a_replica_went_is_read_from_the_rows(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", str(table), "a", *NAMED[:4], *SELECT, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["parallelism"] == {"tensor": 8, "pipeline": 1}


def test_limits_of_the_command_line_go_first(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--kv-cache-tokens", "5000", "--max-running", "8", "--max-batched-tokens", "512", "-o", "json")
    assert run(["profile", str(table), "a", *NAMED, *SELECT, *limits]) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert (spec["kvCacheTokens"], spec["maxRunning"], spec["maxBatchedTokens"]) == (5000, 8, 512)


def test_a_table_for_people(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", str(table), "a", *NAMED, *SELECT, "-o", "table"]) == 0
    shown = capsys.readouterr().out
    assert "llama2-70b on 8 h100-80gb" in shown
    assert "2048" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param((*NAMED,), "holds several profiles", id="nothing chosen"),
        pytest.param(
            (*NAMED[:4], *SELECT, "--tensor", "4"), "--tensor 4: perf_model.csv was measured with 8", id="other GPUs"
        ),
        pytest.param(
            (*NAMED, "--profile-select", "hardware"), "'hardware' is not key=value", id="a choice without value"
        ),
        pytest.param((*NAMED, *SELECT, "--kv-cache-tokens", "9999999999"), "kvCacheTokens", id="too large a cache"),
        pytest.param(
            ("--model", "llama 2", "--accelerator", "h100", *SELECT),
            "PerformanceProfile a: model = 'llama 2'",
            id="a model",
        ),
    ],
)
def test_what_makes_no_profile_is_refused_in_one_line(
    table: Path, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", str(table), "a", *arguments]) == 2
    answer = capsys.readouterr()
    assert words in answer.err
    assert answer.out == ""


def test_a_name_that_no_object_has_is_refused(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", str(table), "A B", *NAMED, *SELECT]) == 2
    assert "NAME A B: must be lower case" in capsys.readouterr().err
