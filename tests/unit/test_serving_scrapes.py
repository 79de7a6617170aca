"""From an answer to what each pod said: which series count, which do not, and what is no number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from stowage.decide.samples import Sample
from stowage.decide.serving.signals_pod import PodSample
from stowage.decide.serving.view import TTFT_BOUNDS_SECONDS
from stowage.observe.serving.names import SGLANG, TRT_LLM, VLLM, EngineNames
from stowage.observe.serving.scrapes import pod_samples

NOW = 1_790_000_000.0
TARGET = {"namespace": "team", "pod": "chat-1", "job": "engines", "instance": "10.0.0.7:8000"}
ENGINE = {"engine": "0", "model_name": "llama"}
BY_PRIORITY: tuple[tuple[dict[str, str], float], ...] = (({}, 6), ({"priority": "1"}, 2), ({"priority": "5"}, 4))
"""As SGLang tells of a queue where it schedules by priority: all, then each."""


def series(name: str, *points: tuple[float, float], **labels: str) -> list[Sample]:
    """Points are seconds before now, and values."""
    all_labels = {"__name__": name, **TARGET, **ENGINE, **labels}
    return [Sample(all_labels, value, NOW - ago) for ago, value in points]


def read(*found: list[Sample], names: EngineNames = VLLM, **options: Any) -> dict[str, list[PodSample]]:
    given = {"pods": None, "port": 8000, "since": {}, "until": NOW, **options}
    return pod_samples([one for samples in found for one in samples], names, "team", **given)


def one(*found: list[Sample], names: EngineNames = VLLM, **options: Any) -> PodSample:
    ((sample,),) = read(*found, names=names, **options).values()
    return sample


def test_samples_of_one_scrape_belong_together_and_keep_their_time() -> None:
    found = read(
        series("vllm:num_requests_waiting", (20, 3), (5, 4)),
        series("vllm:num_requests_running", (20, 7), (5, 8)),
        series("vllm:request_success_total", (20, 100), (5, 110), finished_reason="stop"),
        series("vllm:request_success_total", (20, 5), (5, 6), finished_reason="length"),
    )
    first, second = found["chat-1"]
    assert (first.at, second.at) == (NOW - 20, NOW - 5)
    assert (first.waiting, first.running) == (3, 7)
    assert sorted(second.counters.values()) == [6, 110]
    assert {name for name, _ in second.counters} == {"completed"}


def test_engines_of_one_process_are_added() -> None:
    found = one(
        *(series("vllm:num_requests_running", (5, 2 + rank), engine=str(rank)) for rank in range(4)),
        *(series("vllm:num_requests_waiting", (5, 1), engine=str(rank)) for rank in range(4)),
        *(series("vllm:kv_cache_usage_perc", (5, 0.2 * (rank == 1)), engine=str(rank)) for rank in range(4)),
        *(
            series("vllm:cache_config_info", (5, 1), engine=str(rank), num_gpu_blocks="1000", block_size="16")
            for rank in range(4)
        ),
    )
    assert (found.running, found.waiting, found.kv_tokens) == (14, 4, 64_000)
    assert found.kv_share == pytest.approx(0.05)


def test_ranks_of_one_engine_are_not() -> None:
    ranks = [{"tp_rank": str(rank)} for rank in range(8)]
    found = one(
        *(series("sglang:num_running_reqs", (5, 9), **rank) for rank in ranks),
        *(series("sglang:num_queue_reqs", (5, 2), **rank) for rank in ranks),
        *(series("sglang:num_requests_total", (5, 50), **rank) for rank in ranks),
        names=SGLANG,
    )
    assert (found.running, found.waiting, list(found.counters.values())) == (9, 2, [50])


def test_queues_of_a_pair_of_roles_are_parts_of_what_waits() -> None:
    found = one(
        series("sglang:num_queue_reqs", (5, 2)),
        series("sglang:num_decode_prealloc_queue_reqs", (5, 3)),
        series("sglang:num_decode_transfer_queue_reqs", (5, 4)),
        series("sglang:num_running_reqs", (5, 1)),
        names=SGLANG,
    )
    assert (found.waiting, found.running) == (9, 1)


@pytest.mark.parametrize(
    ("given", "waiting", "running"),
    [
        pytest.param({"prefill_prealloc_queue": 3}, 5, 1, id="a prefill queue by its old name"),
        pytest.param({"prefill_bootstrap_queue": 3}, 5, 1, id="by its new name"),
        pytest.param({"prefill_bootstrap_queue": 3, "prefill_prealloc_queue": 3}, 5, 1, id="by both: not added"),
        pytest.param({"prefill_infight_queue": 4}, 2, 5, id="what is sent to the decode pods, by its old name"),
        pytest.param({"prefill_inflight_queue": 4}, 2, 5, id="what is sent, by its new name"),
        pytest.param({"decode_transfer_queue": 4, "decode_host_receive_queue": 3}, 6, 1, id="some of a queue again"),
    ],
)
def test_queues_of_sglang(given: Mapping[str, float], waiting: float, running: float) -> None:
    found = one(
        series("sglang:num_queue_reqs", (5, 2)),
        series("sglang:num_running_reqs", (5, 1)),
        *(series(f"sglang:num_{name}_reqs", (5, value)) for name, value in given.items()),
        names=SGLANG,
    )
    assert (found.waiting, found.running) == (waiting, running)


def test_shares_by_priority_are_no_further_requests() -> None:
    found = one(
        *(series("sglang:num_queue_reqs", (5, value), **labels) for labels, value in BY_PRIORITY),
        *(series("sglang:num_running_reqs", (5, value + 1), **labels) for labels, value in BY_PRIORITY),
        *(series("sglang:num_requests_total", (5, value), **labels) for labels, value in BY_PRIORITY[1:]),
        names=SGLANG,
    )
    assert (found.waiting, found.running) == (6, 7)
    assert sorted(found.counters.values()) == [2, 4]  # each request is in one of them


def test_gauges_by_a_label_of_another_engine_are_added() -> None:
    found = one(
        *(series("vllm:num_requests_waiting", (5, 2), priority=priority) for priority in ("1", "5")),
        series("vllm:num_requests_running", (5, 1)),
    )
    assert (found.waiting, found.running) == (4, 1)


def test_a_part_without_the_queue_itself_is_not_all_that_waits() -> None:
    found = one(
        series("sglang:num_grammar_queue_reqs", (5, 3)), series("sglang:num_running_reqs", (5, 1)), names=SGLANG
    )
    assert (found.waiting, found.requests) == (None, None)


@pytest.mark.parametrize(
    ("given", "share"),
    [
        pytest.param({"vllm:gpu_cache_usage_perc": 0.4}, 0.4, id="the old name"),
        pytest.param({"vllm:kv_cache_usage_perc": 0.5}, 0.5, id="the new name"),
        pytest.param({"vllm:gpu_cache_usage_perc": 0.5, "vllm:kv_cache_usage_perc": 0.5}, 0.5, id="both: not added"),
        pytest.param({"vllm:gpu_cache_usage_perc": 0.9, "vllm:kv_cache_usage_perc": 0.5}, 0.5, id="the new one counts"),
        pytest.param({"vllm:num_requests_running": 1}, None, id="neither"),
    ],
)
def test_old_and_new_names(given: Mapping[str, float], share: float | None) -> None:
    assert one(*(series(name, (5, value)) for name, value in given.items())).kv_share == share


def test_pods_with_old_and_with_new_names_stand_side_by_side_during_an_upgrade() -> None:
    bucket = "_seconds_bucket"
    found = read(
        series(f"vllm:time_per_output_token{bucket}", (5, 3), le="+Inf"),
        series(f"vllm:inter_token_latency{bucket}", (5, 4), le="+Inf", pod="chat-2"),
    )
    assert [row[-1] for one in ("chat-1", "chat-2") for row in found[one][0].rows.values()] == [3, 4]
    assert {name for one in found.values() for name, _ in one[0].rows} == {"itl_counts"}


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"job": "engines-by-service"}, id="a second scrape job"),
        pytest.param({"prometheus_replica": "prometheus-1"}, id="a second Prometheus"),
        pytest.param({"replica": "b", "receive_replica": "2"}, id="Thanos without deduplication"),
        pytest.param({"instance": "10.0.0.7:9090", "container": "sidecar"}, id="another container"),
    ],
)
def test_a_process_that_is_there_twice_counts_once(again: Mapping[str, str]) -> None:
    names = ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:prompt_tokens_total")
    found = read(
        *(series(name, (20, 7), (5, 8)) for name in names),
        *(series(name, (18, 7), (3, 8), **again) for name in names),
    )["chat-1"]
    assert [(sample.waiting, len(sample.counters)) for sample in found] == [(7, 1), (8, 1)]
    assert {sample.at for sample in found} in ({NOW - 20, NOW - 5}, {NOW - 18, NOW - 3})


def test_the_process_at_the_engines_port_is_read() -> None:
    found = one(
        series("vllm:num_requests_running", (5, 1), instance="10.0.0.7:9000"),
        series("vllm:num_requests_running", (5, 2), instance="10.0.0.7:8000"),
        series("vllm:num_requests_waiting", (5, 1), instance="10.0.0.7:9000"),
    )
    assert found.running == 2


def test_a_target_that_is_no_longer_scraped_gives_way() -> None:
    found = read(
        series("vllm:num_requests_running", (55, 1), job="gone"),
        series("vllm:num_requests_running", (5, 2), job="z", instance="elsewhere"),
    )["chat-1"]
    assert [sample.running for sample in found] == [2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0], ids=repr)
def test_what_is_no_number_is_no_sample_and_never_zero(value: float) -> None:
    found = one(
        series("vllm:num_requests_waiting", (5, value)),
        series("vllm:num_requests_running", (5, 3)),
        series("vllm:generation_tokens_total", (5, value)),
        series("vllm:time_to_first_token_seconds_bucket", (5, value), le="+Inf"),
    )
    assert (found.waiting, found.running, found.counters, found.rows) == (None, 3, {}, {})
    assert "vllm:num_requests_waiting" in found.unsound


def test_a_share_above_one_is_none() -> None:
    found = one(series("vllm:kv_cache_usage_perc", (5, 37.0)), series("vllm:num_requests_running", (5, 3)))
    assert (found.kv_share, found.unsound) == (None, ("vllm:kv_cache_usage_perc",))


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"namespace": "other"}, id="another namespace"),
        pytest.param({"pod": "chat-9"}, id="a pod that was not asked for"),
        pytest.param({"pod": ""}, id="no pod"),
        pytest.param({"__name__": "vllm:num_requests_waiting_by_reason"}, id="another name"),
        pytest.param({"le": "0.1", "__name__": "vllm:time_to_first_token_seconds_sum"}, id="a sum"),
    ],
)
def test_series_of_others_are_left_out_whatever_the_server_sends(labels: Mapping[str, str]) -> None:
    sample = Sample({"__name__": "vllm:num_requests_running", **TARGET, **labels}, 5.0, NOW - 5)
    assert read([sample], pods={"chat-1"}) == {}


def test_only_what_is_new_is_read_and_nothing_from_the_future() -> None:
    running = series("vllm:num_requests_running", (20, 1), (5, 2), (-120, 3))
    found = read(running, since={"chat-1": NOW - 20})["chat-1"]
    assert [(sample.at, sample.running) for sample in found] == [(NOW - 5, 2)]


@pytest.mark.parametrize(
    ("waiting", "running", "taken"),
    [
        pytest.param([20, 4], [20], [20], id="the newest scrape has come in part"),
        pytest.param([20, 4], [20, 4], [20, 4], id="the rest has come"),
        pytest.param([20, 4, 2], [20, 2], [20], id="a later one is whole: the one before it is awaited"),
        pytest.param([30, 11], [30], [30, 11], id="it is awaited no longer"),
        pytest.param([30, 15, 4], [30], [30, 15, 4], id="a series that has gone before is not expected"),
        pytest.param([20, 4], [], [20, 4], id="nor one that was never there"),
    ],
)
def test_a_scrape_that_comes_in_pieces_is_awaited(waiting: list[int], running: list[int], taken: list[int]) -> None:
    found = read(
        series("vllm:num_requests_waiting", *((ago, 3) for ago in waiting)),
        series("vllm:num_requests_running", *((ago, 7) for ago in running)) if running else [],
    )["chat-1"]
    assert [NOW - sample.at for sample in found] == taken


def test_samples_out_of_order_are_put_in_order() -> None:
    found = read(series("vllm:num_requests_running", (5, 2), (20, 1)))["chat-1"]
    assert [sample.running for sample in found] == [1, 2]


@pytest.mark.parametrize(
    ("found", "names", "tokens"),
    [
        pytest.param(
            [series("vllm:cache_config_info", (5, 1), num_gpu_blocks="1000", block_size="16")],
            VLLM,
            16_000,
            id="vLLM: by labels",
        ),
        pytest.param(
            [series("vllm:cache_config_info", (5, 1), num_gpu_blocks="None", block_size="16")],
            VLLM,
            None,
            id="vLLM before it knows",
        ),
        pytest.param([series("sglang:max_total_num_tokens", (5, 9000))], SGLANG, 9000, id="SGLang"),
        pytest.param(
            [series("sglang:num_pages", (5, 100)), series("sglang:page_size", (5, 64))], SGLANG, 6400, id="its pages"
        ),
        pytest.param(
            [series("trtllm_kv_cache_max_blocks", (5, 100)), series("trtllm_kv_cache_tokens_per_block", (5, 32))],
            TRT_LLM,
            3200,
            id="TensorRT-LLM",
        ),
        pytest.param([series("trtllm_kv_cache_max_blocks", (5, 100))], TRT_LLM, None, id="blocks of unknown size"),
    ],
)
def test_the_size_of_the_cache(found: list[list[Sample]], names: EngineNames, tokens: float | None) -> None:
    assert one(*found, names=names).kv_tokens == tokens


def test_buckets_come_on_the_bounds_of_the_view() -> None:
    counts = {str(bound): 10.0 * number for number, bound in enumerate(TTFT_BOUNDS_SECONDS)} | {"+Inf": 500.0}
    name = "vllm:time_to_first_token_seconds_bucket"
    found = one(*(series(name, (5, count), le=bound) for bound, count in counts.items()))
    ((field, _),) = found.rows
    assert (field, list(found.rows.values())) == ("ttft_counts", [tuple(counts.values())])


def test_buckets_of_another_engine_are_spread() -> None:
    name = "sglang:time_to_first_token_seconds_bucket"
    buckets = {"0.1": 10, "0.2": 30, "0.4": 30, "+Inf": 40, "none": 7}
    found = one(*(series(name, (5, count), le=bound) for bound, count in buckets.items()), names=SGLANG)
    (row,) = found.rows.values()
    assert row[TTFT_BOUNDS_SECONDS.index(0.1)] == 10
    assert row[TTFT_BOUNDS_SECONDS.index(0.04)] == pytest.approx(4)
    assert row[TTFT_BOUNDS_SECONDS.index(1.0)] == 30
    assert row[-1] == 40


def test_the_start_of_the_process_is_read() -> None:
    found = one(series("process_start_time_seconds", (5, NOW - 500)), series("vllm:num_requests_running", (5, 0)))
    assert found.started == NOW - 500


def test_numbers_beyond_all_counting_neither_raise_nor_count() -> None:
    digits = "9" * 400  # a whole number, and none that a float holds
    found = one(
        series("vllm:num_requests_waiting", (5, 1.7e308), engine="0"),
        series("vllm:num_requests_waiting", (5, 1.7e308), engine="1"),
        series("vllm:num_requests_running", (5, 1)),
        series("vllm:cache_config_info", (5, 1), num_gpu_blocks=digits, block_size="16"),
        series("vllm:request_success_total", (5, 1.7e308)),
    )
    assert (found.waiting, found.running, found.kv_tokens, dict(found.counters)) == (None, 1, None, {})
    assert "vllm:num_requests_waiting" in found.unsound
