"""Layouts by example, profiles that hold several ways to run a replica, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stowage.cli.app import run as run_command
from stowage.decide.serving.capacity import Bound, Capacity, Shape, Targets, capacity
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.plan_serving import Demand, Fleet, Layout, Role, Split, layouts, rated
from stowage.simulate.openb import TraceError
from stowage.simulate.serving.profile_splits import read_splits

ENGINE = Performance(line(0.02, 0.0002), line(0.03, 0.0003), kv_capacity_tokens=100_000, max_running=64)
DEMAND = Demand(6.0, Shape(1000, 200), Targets(1.0, 0.05))
FLEET = Fleet({"h100": 16}, gpus_per_node=8)
TWO = Split("h100", 2, 1, ENGINE)

COLUMNS = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,"
    "tensor_parallel\n"
)


def measured(model: str, gpu: str, tensor: int, speed: float) -> str:
    """Some runs, `speed` times as fast as the slowest."""
    lines = []
    for prompt, batch in [(128, 1), (1024, 1), (4096, 1), (512, 8), (512, 64)]:
        prompt_time, token_time = (20 + 0.2 * prompt * batch) / speed, (30 + 0.3 * batch) / speed
        lines.append(f"{model},{gpu},{prompt},{batch},128,1,1,{prompt_time},{token_time},1000,{tensor}\n")
    return "".join(lines)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    file = tmp_path / "profile.csv"
    rows = [
        *(("llama2-70b", "h100-80gb", tensor, 1 + 0.25 * tensor) for tensor in (2, 4, 8)),
        ("llama2-70b", "a100-80gb", 4, 1.0),
        ("bloom-176b", "h100-80gb", 8, 1.0),
    ]
    file.write_text(COLUMNS + "".join(measured(*row) for row in rows))
    return file


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.csv"
    lines = "".join(f"{number / 4},{500 + 100 * (number % 5)},{50 + number % 3}\n" for number in range(41))
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + lines)
    return file


def words(layout: Layout) -> str:
    return " + ".join(f"{count} {one.role} tp{one.split.tensor} pp{one.split.pipeline}" for one, count in layout.parts)


def test_decode_alone_serves_more_than_prefill_and_decode_together() -> None:
    rates = {role: rated(TWO, role, DEMAND).requests_per_second for role in Role}
    assert rates[Role.UNIFIED] == capacity(ENGINE, DEMAND.shape, DEMAND.targets).requests_per_second
    assert rates[Role.UNIFIED] < min(rates[Role.PREFILL], rates[Role.DECODE])
    assert rated(TWO, Role.PREFILL, DEMAND).bound is Bound.TTFT


def test_a_pipeline_lets_prompts_follow_each_other_and_shares_the_memory() -> None:
    deep = replace(TWO, pipeline=2)
    assert (
        rated(deep, Role.PREFILL, DEMAND).requests_per_second
        > 1.9 * rated(TWO, Role.PREFILL, DEMAND).requests_per_second
    )
    half = replace(TWO, performance=replace(ENGINE, kv_capacity_tokens=ENGINE.kv_capacity_tokens // 2))
    two_halves = 2 * rated(half, Role.DECODE, DEMAND).requests_per_second
    assert (
        0.95 * two_halves < rated(deep, Role.DECODE, DEMAND).requests_per_second < two_halves
    )  # a stage costs a little


def test_a_pipeline_helps_no_prompt_that_is_late_by_itself() -> None:
    late = replace(DEMAND, targets=Targets(0.2, 0.05))
    assert rated(replace(TWO, pipeline=4), Role.PREFILL, late) == rated(
        replace(TWO, pipeline=4), Role.PREFILL, replace(late, requests_per_second=1.0)
    )
    assert rated(replace(TWO, pipeline=4), Role.PREFILL, late).requests_per_second == 0
    assert layouts([TWO], late, FLEET) == []


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        pytest.param(FLEET, {"6 unified tp2 pp1", "4 prefill tp2 pp1 + 2 decode tp2 pp1"}, id="two nodes of eight"),
        pytest.param(
            replace(FLEET, gpus={"h100": 4}, gpus_per_node=4),
            {"2 unified tp2 pp1", "1 prefill tp2 pp1 + 1 decode tp2 pp1"},
            id="as many as there is room for, though too few",
        ),
        pytest.param(
            replace(FLEET, gpus={"h100": 4}),
            {"2 unified tp2 pp1", "1 prefill tp2 pp1 + 1 decode tp2 pp1"},
            id="a node that is smaller than the others",
        ),
        pytest.param(
            replace(FLEET, gpus={"h100": 16}, gpus_per_node=2), {"6 unified tp2 pp1"}, id="no node holds both roles"
        ),
        pytest.param(
            replace(FLEET, gpus={"h100": 16}, gpus_per_node=2, is_low_affinity=False),
            {"6 unified tp2 pp1", "3 prefill tp2 pp1 + 2 decode tp2 pp1"},
            id="unless KV caches may be sent between nodes",
        ),
        pytest.param(replace(FLEET, gpus={"h100": 16}, gpus_per_node=1), set(), id="no node holds a tensor split"),
        pytest.param(replace(FLEET, gpus={"a100": 16}), set(), id="none of these GPUs"),
    ],
)
def test_roles_that_exchange_caches_share_a_node(fleet: Fleet, expected: set[str]) -> None:
    assert {words(layout) for layout in layouts([TWO], DEMAND, fleet)} == expected


def test_a_pipeline_is_spread_stage_by_stage_over_nodes_that_hold_one_of_each_role() -> None:
    deep = replace(TWO, pipeline=4)  # eight GPUs a replica: both roles have sixteen, four on each of four nodes
    found = layouts([deep], DEMAND, replace(FLEET, gpus={"h100": 16}, gpus_per_node=4))
    assert "1 prefill tp2 pp4 + 1 decode tp2 pp4" in {words(layout) for layout in found}
    found = layouts([deep], DEMAND, replace(FLEET, gpus={"h100": 18}, gpus_per_node=3))
    assert {words(layout) for layout in found} == {"1 unified tp2 pp4"}


def test_the_cheaper_gpu_comes_first_though_it_takes_more_of_them() -> None:
    slow = Split("a100", 2, 1, replace(ENGINE, decode_seconds=line(0.045, 0.0003)))
    fleet = Fleet({"h100": 64, "a100": 64}, price={"h100": 4.0, "a100": 1.0})
    best, *_ = layouts([TWO, slow], DEMAND, fleet)
    assert set(best.gpus) == {"a100"}
    assert best.cost_per_hour == sum(best.gpus.values())
    assert set(layouts([TWO, slow], DEMAND, replace(fleet, price=None))[0].gpus) == {"h100"}


def test_roles_on_unlike_gpus_need_caches_to_travel() -> None:
    slow = Split("a100", 2, 1, ENGINE)
    together = layouts([TWO, slow], DEMAND, Fleet({"h100": 8, "a100": 8}))
    apart = layouts([TWO, slow], DEMAND, Fleet({"h100": 8, "a100": 8}, is_low_affinity=False))
    assert {len(layout.gpus) for layout in together} == {1}
    assert {len(layout.gpus) for layout in apart} == {1, 2}
    few = layouts([TWO, slow], DEMAND, Fleet({"h100": 2, "a100": 8}, is_low_affinity=False))
    assert max(layout.gpus.get("h100", 0) for layout in few) == 2


def test_rates_that_do_not_quite_add_up_take_one_replica_more() -> None:
    """Three times the float nearest to 0.3 is less than that nearest to 0.9."""

    def rate(*_: Any) -> Capacity:
        return Capacity(0.3, Bound.COMPUTE, None)

    found = layouts([TWO], replace(DEMAND, requests_per_second=0.9), Fleet({"h100": 16}), rate)
    assert words(found[0]) == "4 unified tp2 pp1"
    assert found[0].meets_demand


def test_the_largest_comes_first_where_none_is_large_enough() -> None:
    slow = Split("a100", 2, 1, replace(ENGINE, prefill_seconds=line(0.02, 0.0004)))
    fleet = Fleet({"h100": 16, "a100": 16}, price={"h100": 4.0})
    found = layouts([TWO, slow], replace(DEMAND, requests_per_second=500.0), fleet)
    assert not any(layout.meets_demand for layout in found)
    rates = [layout.requests_per_second for layout in found]
    assert rates == sorted(rates, reverse=True)
    costs = [layout.cost_per_hour for layout in found]
    assert costs != sorted(costs)


def test_a_profile_tells_of_every_split_on_a_gpu_and_pipelines_of_them(profile: Path) -> None:
    read = read_splits(profile, ["h100-80gb"], [1, 2], select={"model": "llama2-70b"})
    assert [(one.tensor, one.pipeline) for one in read.splits] == [(2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]
    assert read.left_out == ()
    by_gpus = {one.gpus: one.performance.kv_capacity_tokens for one in read.splits}
    assert sorted(by_gpus.values()) == [by_gpus[count] for count in sorted(by_gpus)]
    alone = read_splits(profile, ["h100-80gb"], [1], select={"model": "llama2-70b", "tensor_parallel": "4"})
    assert [one.tensor for one in alone.splits] == [4]


def test_what_does_not_fit_into_memory_is_left_out_by_name(profile: Path) -> None:
    text = profile.read_text().replace("bloom-176b,h100-80gb", "bloom-176b,a100-80gb").replace(",1000,8", ",1000,2")
    profile.write_text(COLUMNS + "".join(line for line in text.splitlines(keepends=True) if line.startswith("bloom")))
    read = read_splits(profile, ["a100-80gb"], [1, 4], select={})
    assert [(one.tensor, one.pipeline) for one in read.splits] == [(2, 4)]
    assert read.left_out == ("bloom-176b on 2 a100-80gb: does not fit, or its size is not known",)
    given = read_splits(profile, ["a100-80gb"], [1, 4], select={}, kv_tokens=50_000)
    assert [one.performance.kv_capacity_tokens for one in given.splits] == [50_000, 50_000]


@pytest.mark.parametrize(
    ("gpus", "select", "said"),
    [
        pytest.param(["h100-80gb"], {}, "choose with profile-select, model: bloom-176b, llama2-70b", id="two models"),
        pytest.param(["a100-80gb"], {}, "model: bloom-176b, llama2-70b", id="two models, one of them on other GPUs"),
        pytest.param(
            ["b200"], {"model": "llama2-70b"}, "no row with GPU b200, but with a100-80gb, h100-80gb", id="GPU"
        ),
        pytest.param(["h100-80gb"], {"model": "gpt"}, "none is left", id="a model that is not in it"),
        pytest.param(["h100-80gb"], {"model": "llama2-70b", "colour": "red"}, "profile-select colour", id="a column"),
    ],
)
def test_what_is_not_in_a_profile_is_named(profile: Path, gpus: list[str], select: dict[str, str], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read_splits(profile, gpus, [1], select=select)


def test_only_runs_with_one_stage_and_both_roles_are_taken_from_whole_runs(tmp_path: Path) -> None:
    names = (
        "system,backend,backend_version,model_path,precision,mode,tp_size,pp_size,attention_dp_size,moe_tp_size,"
        "moe_ep_size,isl,osl,batch_size,silicon_ttft_ms,silicon_tpot_ms"
    )
    rows = [
        f"h100_sxm,vllm,1,Qwen/Qwen3-32B,fp8,{mode},{tensor},{stages},1,1,1,{prompt},200,{batch},"
        f"{0.1 * prompt + 5 * batch},{10 + batch}"
        for mode, tensor, stages in [("agg", "2", "1"), ("agg", "4", "1"), ("agg", "2", "2"), ("disagg", "", "")]
        for prompt in (500, 2000)
        for batch in (1, 8, 32)
    ]
    file = tmp_path / "silicon.csv"
    file.write_text("\n".join([names, *rows]) + "\n")
    read = read_splits(file, ["h100_sxm"], [1, 2], select={"model": "Qwen/Qwen3-32B", "precision": "fp8"})
    assert [(one.tensor, one.pipeline) for one in read.splits] == [(2, 1), (2, 2), (4, 1), (4, 2)]


def test_a_profile_of_one_replica_is_on_the_gpu_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "prefill.csv").write_text("prefill_isl,prefill_ttft\n100,20\n3000,70\n")
    (tmp_path / "decode.csv").write_text(
        "x_kv_usage,y_context_length,z_itl\n0.001,350,5\n0.1,350,20\n0.1,3000,8\n0.5,3000,15\n"
    )
    (tmp_path / "limits.csv").write_text("max_kv_tokens\n900000\n")
    read = read_splits(tmp_path, ["h200"], [1, 2], select={}, tensor=2)
    assert [(one.gpu, one.tensor, one.pipeline) for one in read.splits] == [("h200", 2, 1)]
    assert read.left_out == ("pipelines of 2: the profile names no model",)
    with pytest.raises(TraceError, match="give one GPU"):
        read_splits(tmp_path, ["h200", "h100"], [1], select={})


ASKED = ["--profile-select", "model=llama2-70b", "--slo-ttft", "2s", "--slo-itl", "100ms"]


def asked(profile: Path, *more: str) -> list[str]:
    return ["plan-serving", "--profile", str(profile), *ASKED, "--closed-form", *more]


def test_the_command_ranks_layouts(profile: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(asked(profile, "--gpu", "h100-80gb:16", "--trace", str(trace), "-o", "json"))
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (answer["requestsPerSecond"], answer["inputTokens"]) == (4.1, 695.1)
    best = answer["layouts"][0]
    assert best["meetsDemand"]
    assert best["requestsPerSecond"] >= 4.1
    assert best["gpus"] == {
        "h100-80gb": sum(one["replicas"] * one["tensorParallel"] * one["pipelineParallel"] for one in best["roles"])
    }
    assert best["costPerHour"] is None
    assert len(answer["layouts"]) == 10


def test_the_table_says_what_is_asked_and_what_serves_it(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--input-tokens", "700", "--output-tokens", "100", "--rate", "3", "--rows", "1"]
    assert run_command(asked(profile, "--gpu", "h100-80gb:16", *shape)) == 0
    head, columns, best = capsys.readouterr().out.splitlines()
    assert head == "3.00 requests/s of 700 + 100 tokens, 99 % within 2 s and 100 ms a token"
    assert columns.split() == ["replicas", "GPUs", "requests/s", "per", "GPU", "bound", "by"]
    assert "unified tp2 pp1 h100-80gb" in best


def test_without_targets_those_of_the_simulator_are_asked_for(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--profile-select", "model=llama2-70b", "--gpu", "h100-80gb:16", *SHAPE, "--rate", "3", "--closed-form"]
    assert run_command(["plan-serving", "--profile", str(profile), *more]) == 0
    assert "within 2 s and 100 ms a token" in capsys.readouterr().out


def test_a_demand_beyond_all_gpus_is_a_negative_answer(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--input-tokens", "700", "--output-tokens", "100", "--rate", "3000"]
    assert run_command(asked(profile, "--gpu", "h100-80gb:16", *shape)) == 1
    assert "(too few)" in capsys.readouterr().out
    assert run_command(asked(profile, "--gpu", "h100-80gb:1", *shape)) == 1
    assert "no layout serves any of them" in capsys.readouterr().out


SHAPE = ("--input-tokens", "700", "--output-tokens", "100")


def test_layouts_are_rated_by_simulation_unless_asked_otherwise(
    profile: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--gpu", "a100-80gb:16", "--trace", str(trace), "--pipeline", "1", "-o", "json"]

    def answer(*flags: str) -> Any:
        assert run_command(["plan-serving", "--profile", str(profile), *ASKED, *more, *flags]) == 0
        return json.loads(capsys.readouterr().out)

    assert answer() == answer("--seed", "0")
    assert answer()["layouts"] != answer("--closed-form")["layouts"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(("--gpu", "h100-80gb", *SHAPE, "--rate", "1"), "NAME:NUMBER", id="a GPU without a count"),
        pytest.param(("--gpu", "h100-80gb:two", *SHAPE, "--rate", "1"), "not a whole number", id="a count in words"),
        pytest.param(("--gpu", "h100-80gb:8", "--rate", "1"), "say what requests look like", id="requests of no shape"),
        pytest.param(("--gpu", "h100-80gb:8", *SHAPE), "--rate", id="no rate"),
        pytest.param(("--gpu", "h100-80gb:8", *SHAPE, "--trace", "t.csv"), "instead of", id="trace and lengths"),
        pytest.param(("--gpu", "h100-80gb:8", "--trace", "none.csv"), "none.csv", id="a trace that is not there"),
        pytest.param(
            ("--gpu", "h100-80gb:8", *SHAPE, "--rate", "1", "--price", "a100:2"), "not a name of --gpu", id="price"
        ),
        pytest.param(
            ("--gpu", "h100-80gb:8", *SHAPE, "--rate", "1", "--price", "h100-80gb:-2"),
            "at least 0",
            id="a negative price",
        ),
        pytest.param(
            ("--gpu", "h100-80gb:8", *SHAPE, "--rate", "1", "--pipeline", "0"), "--pipeline", id="a pipeline of none"
        ),
        pytest.param(
            ("--gpu", "h100-80gb:8", *SHAPE, "--rate", "1", "--slo-itl", "fast"), "--slo-itl fast", id="no duration"
        ),
        pytest.param(("--gpu", "h100-80gb:8", *SHAPE, "--rate", "1", "--slo-ttft", "0s"), "more than 0", id="no time"),
    ],
)
def test_usage_errors_are_one_line(
    profile: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(asked(profile, *more)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


def test_the_mix_of_variants_for_several_loads(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lengths = ["--input-tokens", "800", "--output-tokens", "100", "--gpu", "h100-80gb:16"]
    more = [*lengths, "--gpu", "a100-80gb:16", "--price", "h100-80gb:4", "--price", "a100-80gb:1", "--mix"]
    asked = ["plan-serving", "--profile", str(profile), *ASKED, *more]
    assert run_command([*asked, "--rate", "8", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["mixes"]
    assert [one["requestsPerSecond"] for one in found] == [1.0, 2.0, 4.0, 8.0]
    for one in found:
        rates = one["requestsPerSecondOfReplica"]
        slowest = min(rates[name] for name in one["replicas"])
        assert sum(one["replicas"].values()) * slowest >= one["requestsPerSecond"]
        assert sum(int(name[-1]) * count for name, count in one["replicas"].items() if "h100" in name) <= 16
    costs = [one["costPerHour"] for one in found]
    assert costs == sorted(costs)
    assert run_command([*asked, "--rate", "8"]) == 0
    assert "a replica serves, within the targets:" in capsys.readouterr().out
    assert run_command([*asked, "--rate", "5000"]) == 1
    assert "no mix fits" in capsys.readouterr().out
