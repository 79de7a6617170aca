"""Profiles in the forms of five projects: step times, limits, and which rows are meant."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from stowage.decide.serving.performance import Performance, constant, line
from stowage.simulate.openb import TraceError
from stowage.simulate.serving.calibration import calibrated
from stowage.simulate.serving.kv_capacity import kv_capacity
from stowage.simulate.serving.measured_runs import Run, play, run_performance
from stowage.simulate.serving.profile_files import Limits, measured_parallelism, read_profile
from stowage.simulate.serving.profile_rows import parse_select
from stowage.simulate.serving.requests import Requests

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STOWAGE_DATA", ROOT.parent / "shared" / "data"))
SPLITWISE = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel\n"
SILICON = (
    "system,backend,backend_version,model_path,precision,mode,isl,osl,batch_size,tp_size,pp_size,attention_dp_size,"
    "moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
)
CURVE = (
    "config,stage,requested_rps,achieved_rps,completed_rps,input_tok_per_s,output_tok_per_s,ttft_mean_s,e2e_mean_s\n"
)
RUN = "request_id,arrival_s,input_tokens,output_tokens,queue_wait_s,ttft_s,decode_s,tpot_s\n"


def data(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {parts[0]} in {DATA}: set STOWAGE_DATA to the folder that holds it")
    return path


def written(folder: Path, text: str, name: str = "profile.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def splitwise(folder: Path, *rows: str) -> Path:
    return written(folder, SPLITWISE + "".join(f"{row}\n" for row in rows))


def test_splitwise_rows_become_curves(tmp_path: Path) -> None:
    file = splitwise(
        tmp_path,
        "llama2-70b,h100-80gb,128,1,9,58,30,8",
        "llama2-70b,h100-80gb,512,1,9,54,30,8",  # less than with 128 tokens: noise, so both are 56
        "llama2-70b,h100-80gb,1024,1,9,80,30,8",
        "llama2-70b,h100-80gb,1024,1,9,999,30,8",  # of three runs the one in the middle counts
        "llama2-70b,h100-80gb,1024,1,9,81,30,8",
        "llama2-70b,h100-80gb,512,4,9,100,40,8",
        "llama2-70b,h100-80gb,512,8,9,50,20,8",  # shorter prompts than half as many: it did not run at once
    )
    found = read_profile(file)
    assert [found.prefill_seconds(tokens) for tokens in (1, 128, 512, 768, 1024)] == pytest.approx(
        [0.056, 0.056, 0.056, (0.056 + 0.081) / 2, 0.081]
    )
    assert [found.decode_seconds(running) for running in (1, 2.5, 4)] == pytest.approx([0.030, 0.035, 0.040])
    assert (found.max_running, found.mixed_factor) == (8, 1.1)
    assert found.kv_capacity_tokens == kv_capacity("llama2-70b", "h100-80gb", 8)


ONE = "llama2-70b,h100-80gb,128,1,9,58,30,8"
TWO = "llama2-70b,a100-80gb,128,1,9,58,30,4"


@pytest.mark.parametrize(
    ("rows", "select", "words"),
    [
        pytest.param(
            [ONE, TWO], {}, "several profiles; choose with profile-select, hardware: a100-80gb, h100-80gb; tensor_",
            id="several remain",
        ),
        pytest.param([ONE, TWO], {"hardware": "tpu"}, "hardware=tpu: not one of a100-80gb, h100-80gb", id="none"),
        pytest.param([ONE], {"color": "red"}, "color: not one of model, hardware, tensor_parallel", id="no such key"),
        pytest.param(["m,h,1,1,1,x,1,1"], {}, "line 2: prompt_time is 'x', not a number", id="no number"),
        pytest.param(["m,h,1,1,1,0,1,1"], {}, "line 2: prompt_time is 0, not more than 0", id="no time"),
        pytest.param(["m,h,1,0,1,1,1,1"], {}, "line 2: batch_size is 0, not from 1", id="no batch"),
        pytest.param(["gpt,h100-80gb,1,1,1,1,1,1"], {}, "give the KV capacity", id="an unknown model"),
        pytest.param(["llama2-70b,h100-80gb,1,1,1,1,1,1"], {}, "give the KV capacity", id="weights fill the GPU"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[str], select: Mapping[str, str], words: str) -> None:
    file = splitwise(tmp_path, *rows)
    with pytest.raises(TraceError) as caught:
        read_profile(file, select)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)


def test_a_selection_and_limits_of_ones_own(tmp_path: Path) -> None:
    file = splitwise(tmp_path, ONE, TWO, "gpt,h100-80gb,1,1,1,1,1,1")
    select = parse_select("model=gpt, hardware=h100-80gb")
    found = read_profile(file, select, Limits(kv_capacity_tokens=5000, max_running=7, max_batched_tokens=512))
    assert (found.kv_capacity_tokens, found.max_running, found.max_batched_tokens) == (5000, 7, 512)
    with pytest.raises(TraceError, match="must be more than max_running"):
        read_profile(file, select, Limits(kv_capacity_tokens=5000, max_running=7, max_batched_tokens=7))


@pytest.mark.parametrize("text", ["model", "=x", "a=1,a=2"])
def test_a_selection_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key=value|twice"):
        parse_select(text)


def test_a_file_in_no_known_form_names_the_forms(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no known form of a profile; one of these sets of columns is expected"):
        read_profile(written(tmp_path, "a,b\n1,2\n"))


RESOURCE = """
apiVersion: stowage.dev/v1alpha1
kind: PerformanceProfile
metadata: {name: a, resourceVersion: "7"}
spec:
  model: m
  accelerator: h100
  kvCacheTokens: 4000
  fitted: {prefill: {base: "20", perToken: "0.2"}, decode: {base: "40", perRequest: "2"}}
status: {services: 1}
"""


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_profile_of_the_cluster_is_a_profile_too(tmp_path: Path, form: str) -> None:
    text = RESOURCE if form == "yaml" else json.dumps(yaml.safe_load(RESOURCE))
    found = read_profile(written(tmp_path, text, f"a.{form}"), limits=Limits(max_running=8))
    assert found.prefill_seconds(100) == pytest.approx(0.04)
    assert (found.kv_capacity_tokens, found.max_running) == (4000, 8)
    assert measured_parallelism(tmp_path / f"a.{form}") is None


@pytest.mark.parametrize(
    ("text", "select", "words"),
    [
        pytest.param("kind: ModelService", {}, "kind must be PerformanceProfile", id="another kind"),
        pytest.param("- 1", {}, "kind must be PerformanceProfile", id="a list"),
        pytest.param(f"{RESOURCE}---{RESOURCE}", {}, "a.yaml: expected a single document", id="two of them"),
        pytest.param(RESOURCE.replace("4000", "none"), {}, "spec.kvCacheTokens = 'none'", id="no number"),
        pytest.param(RESOURCE, {"model": "m"}, "profile-select model: the file holds one profile", id="a selection"),
    ],
)
def test_what_is_no_profile_of_a_cluster_is_named(
    tmp_path: Path, text: str, select: Mapping[str, str], words: str
) -> None:
    with pytest.raises(TraceError, match=words):
        read_profile(written(tmp_path, text, "a.yaml"), select)


TRUE = Performance(line(0.008, 5e-5), line(0.008, 1e-4), 10**6, constant(4e-8), max_running=256)


def test_runs_at_a_fixed_concurrency_give_back_their_step_times(tmp_path: Path) -> None:
    rows = []
    for isl, osl in ((512, 128), (1024, 256), (256, 512), (2048, 128)):
        for batch in (1, 4, 16, 64, 128):
            itl = 0.01
            for _ in range(200):  # the steady state, from the step times
                rate = batch / (0.1 + (osl - 1) * itl)
                running = max(1.0, rate * (osl - 1) * itl)
                itl = TRUE.decode_step_seconds(running, running * (isl + osl / 2)) + 5e-5 * rate * isl * itl
            rows.append(f"h100_sxm,vllm,1,Qwen/Qwen3-32B,fp8,agg,{isl},{osl},{batch},4,1,,1,1,100,{1e3 * itl}\n")
    rows.append("h100_sxm,vllm,1,Qwen/Qwen3-32B,fp8,disagg,1,1,,,,,,,1,1\n")
    file = written(tmp_path, SILICON + "".join(rows))
    found = read_profile(file, {"tensor_parallel": "4"})
    assert found == read_profile(file)  # the row with prefill and decode apart is no other choice
    assert found.decode_seconds(100) == pytest.approx(TRUE.decode_seconds(100), rel=0.02)
    assert found.decode_seconds_per_kv_token(1) == pytest.approx(4e-8, rel=0.02)
    assert found.prefill_seconds(1000) == pytest.approx(0.058, rel=0.02)
    assert found.max_running == 128


def test_a_curve_of_rates_tells_how_many_run_at_once(tmp_path: Path) -> None:
    rows = [  # 100 tokens in and 51 out, a step of 5 ms and 0.05 ms for each token; at most 40 at once
        f"a,{stage},{asked},{asked},{done},{100 * done},{51 * done},0.03,{0.03 + 50 * itl}\n"
        for stage, (asked, done, itl) in enumerate([(1, 1, 0.005025), (40, 40, 0.00714), (200, 80, 0.01)])
    ]
    found = read_profile(written(tmp_path, CURVE + "".join(rows)))
    assert found.max_running == 40
    assert found.decode_seconds(1) == pytest.approx(0.005, rel=0.05)
    assert found.overhead_seconds == pytest.approx(0.03 - found.prefill_seconds(100))


def test_a_surface_of_steps(tmp_path: Path) -> None:
    written(tmp_path, "prefill_isl,prefill_ttft,x\n100,20,1\n2000,50,1\n", "prefill.csv")
    written(tmp_path, "max_kv_tokens\n100000\n", "limits.csv")
    steps = [(usage, context) for usage in (0.1, 0.5, 0.9) for context in (500, 1000, 4000)]
    rows = [f"{u},{c},{4 + 0.03 * u * 1e5 / c + 2e-4 * u * 1e5},1\n" for u, c in steps]
    written(tmp_path, "x_kv_usage,y_context_length,z_itl,z\n" + "".join(rows), "decode.csv")
    for path in (tmp_path, tmp_path / "decode.csv", tmp_path / "prefill.csv"):
        found = read_profile(path)
        assert found.kv_capacity_tokens == 100_000
        assert found.decode_step_seconds(20, 30_000) == pytest.approx(0.0106, rel=1e-3)
        assert found.prefill_seconds(1050) == pytest.approx(0.035)


def run_of(count: int, true: Performance) -> Run:
    rng = np.random.default_rng(4)
    requests = Requests(
        np.cumsum(rng.exponential(0.12, count)), rng.integers(50, 1500, count), rng.integers(50, 300, count)
    )
    ttft, decode = play(requests, true)
    return Run(requests, ttft, decode, true.max_running, true.max_batched_tokens, true.kv_capacity_tokens)


def test_step_times_are_found_again_from_part_of_a_run() -> None:
    true = Performance(line(0.012, 4e-5), line(0.012, 7e-5), 10**6, constant(6e-8), max_running=64)
    run = run_of(200, true)
    found = calibrated(run, run_performance(run), share=0.5)
    ttft, decode = play(run.requests, found)
    error = np.abs((ttft + decode) / run.end_to_end_seconds - 1.0)
    assert np.median(error[100:]) < 0.03
    assert np.quantile(error[100:], 0.99) < 0.08


@pytest.mark.parametrize(
    ("rows", "meta", "words"),
    [
        pytest.param("a,0,5,5,0,0,1,1\n", None, "line 2: ttft_s is 0, not more than 0", id="no time to first token"),
        pytest.param("a,1,5,5,0,1,1,1\nb,0,5,5,0,1,1,1\n", None, "line 3: arrival_s is less", id="back in time"),
        pytest.param("a,0,5,5,0,1,1,1\n", None, "the KV capacity is not known", id="no model told"),
        pytest.param("a,0,5,5,0,1,1,1\n", {"max_num_seqs": "x"}, "engine_kwargs.max_num_seqs is 'x'", id="no number"),
        pytest.param("a,0,5,5,0,1,1,1\n", {"max_num_seqs": 0}, "engine_kwargs.max_num_seqs is 0", id="nothing runs"),
    ],
)
def test_what_is_wrong_with_a_run_is_named(
    tmp_path: Path, rows: str, meta: dict[str, object] | None, words: str
) -> None:
    file = written(tmp_path, RUN + rows)
    if meta is not None:
        (tmp_path / "profile.meta.json").write_text(json.dumps({"engine_kwargs": meta}))
    with pytest.raises(TraceError) as caught:
        read_profile(file)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "select"),
    [
        (("splitwise-perf", "perf_model.csv"), "model=llama2-70b,hardware=h100-80gb,tensor_parallel=8"),
        (("splitwise-perf", "perf_model.csv"), "model=bloom-176b,hardware=a100-80gb"),
        (("dynamo-planner-h200",), ""),
        (("inference-perf-vllm-curve", "vllm_llama3_8b_latency_vs_qps.csv"), "config=vllm"),
        (
            ("aiconfigurator-silicon", "silicon_sample_dev.csv.gz"),
            "hardware=h100_sxm,backend=vllm,model=Qwen/Qwen3-32B,tensor_parallel=4",
        ),
    ],
)
def test_published_profiles_are_read(parts: tuple[str, ...], select: str) -> None:
    found = read_profile(data(*parts), parse_select(select))
    times = [found.decode_step_seconds(running, 1000 * running) for running in (1, 8, 32, 64)]
    assert times == sorted(times)
    assert 0.002 < times[0] < times[-1] < 0.2
    assert found.prefill_seconds(2048) > found.prefill_seconds(1024) > 0.01
    assert found.kv_capacity_tokens > 20_000


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "precision", "tokens"),
    [
        ("llama2-70b", "h100-80gb", 2, "", 44_285),
        ("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", 1, "", 459_103),
        ("Qwen/Qwen3-32B", "h100_sxm", 1, "fp8", 165_693),
        ("llama2-70b", "h100-80gb", 1, "", None),
        ("gpt-5", "h100-80gb", 8, "", None),
        ("llama2-70b", "tpu", 8, "", None),
    ],
)
def test_kv_capacity(model: str, gpu: str, gpus: int, precision: str, tokens: int | None) -> None:
    assert kv_capacity(model, gpu, gpus, precision) == tokens
