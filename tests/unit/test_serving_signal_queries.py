"""How engines' series are asked for: names by engine, values that are quoted, and never more than was meant."""

from __future__ import annotations

import itertools
import re

import pytest

from stowage.api.engine_type import EngineType
from stowage.api.model_service_engine import Engine, EngineMetrics
from stowage.observe.serving import queries
from stowage.observe.serving.names import SGLANG, TRT_LLM, VLLM, EngineNames, Signal, UnsafeNameError, names_of
from stowage.observe.serving.queries import batches, deployment_of, groups_of, of_deployments, of_pods, quoted, within


def test_one_selector_asks_for_all_series_of_all_pods() -> None:
    found = within(of_pods(("vllm:a", "b_total"), "team", ["chat-2", "chat-1"]), 34.2)
    assert found == '{__name__=~"vllm:a|b_total",namespace="team",pod=~"chat-1|chat-2"}[35s]'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("web-1", '"web-1"', id="a name"),
        pytest.param('a"} or up{x="', '"a\\"} or up{x=\\""', id="quotes end no string"),
        pytest.param("a\\", '"a\\\\"', id="a backslash"),
        pytest.param("a\nb\tc", '"a\\nb\\tc"', id="lines and tabs"),
        pytest.param("köln", '"köln"', id="letters of others"),
    ],
)
def test_values_are_quoted(value: str, text: str) -> None:
    assert quoted(value) == text


@pytest.mark.parametrize("value", ["a\x00b", "a\x1b[0m", "a\u2028b"], ids=["zero", "escape", "a line of Unicode"])
def test_values_that_no_label_has_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be the value"):
        quoted(value)


def test_characters_of_expressions_stand_for_themselves() -> None:
    assert of_pods(("a",), "n", ["a.b|.*"]) == '{__name__=~"a",namespace="n",pod=~"a\\\\.b\\\\|\\\\.\\\\*"}'


def test_pods_of_a_deployment_are_those_with_two_more_parts() -> None:
    found = of_deployments(("a",), "n", ["chat-unified-h100", "chat-unified-l40s"])
    assert found == (
        '{__name__=~"a",namespace="n",pod=~"(?:chat-unified-h100|chat-unified-l40s)-[a-z0-9]{1,10}-[a-z0-9]{5}"}'
    )


@pytest.mark.parametrize("length", [10, 46, 47, 50, 55, 56, 57, 58, 63, 79])
@pytest.mark.parametrize("digest", ["7d4b9c6f5", "7d4b9c6f55", "7d4b9c6f"])
def test_pods_of_a_deployment_with_a_long_name_are_found_too(length: int, digest: str) -> None:
    """As the API server makes names of pods: at most 58 characters of the ReplicaSet's, and five of its own."""
    name = f"chat-{'x' * (length - 5)}"
    pod = f"{name}-{digest}-"[:58] + "x2x4z"
    found = of_deployments(("a",), "n", [name])
    (pattern,) = re.findall(r'pod=~"(.*)"}', found)
    assert re.fullmatch(pattern, pod)
    assert not re.fullmatch(pattern, f"chat-y{pod[6:]}")
    assert deployment_of(pod) in {name, None}, "another one's pods would be counted"


def test_of_a_group_the_first_pod_alone_is_asked_for() -> None:
    found = of_deployments(("a",), "n", ["chat-unified-h100"], ["chat-unified-wide"])
    pods = "(?:chat-unified-h100)-[a-z0-9]{1,10}-[a-z0-9]{5}|(?:chat-unified-wide)-[0-9]{1,6}-[0-9]{1,6}-0"
    assert found == f'{{__name__=~"a",namespace="n",pod=~"{pods}"}}'
    assert of_deployments(("a",), "n", [], ["w"]).endswith('pod=~"(?:w)-[0-9]{1,6}-[0-9]{1,6}-0"}')
    assert (groups_of("chat-unified-wide-3-12-0"), groups_of("chat-unified-wide-3-12-1")) == ("chat-unified-wide", None)


@pytest.mark.parametrize(
    ("pod", "name"),
    [
        ("chat-unified-h100-7d4b9c6f5-x2x4z", "chat-unified-h100"),
        ("chat-0", None),
        ("chat-unified-h100-7d4b9c6f5-x2x4zz", None),
        ("chat-ABC-x2x4z", None),
    ],
)
def test_the_deployment_of_a_pod(pod: str, name: str | None) -> None:
    assert deployment_of(pod) == name


@pytest.mark.parametrize("name", ["a b", "up} or {", "1a", "", "a" * 130, "rate(a)"])
def test_a_name_that_is_none_is_never_asked_for(name: str) -> None:
    with pytest.raises(UnsafeNameError):
        of_pods((name,), "n", ["p"])
    with pytest.raises(UnsafeNameError):
        EngineNames({Signal.WAITING: ((name,),)})


@pytest.mark.parametrize(
    ("names", "namespace", "pods"),
    [
        pytest.param(("a",), "n", [], id="no pods"),
        pytest.param(("a",), "n", [""], id="a pod without a name matches series without pods"),
        pytest.param(("a",), "", ["p"], id="no namespace"),
        pytest.param((), "n", ["p"], id="no series"),
    ],
)
def test_nothing_is_asked_for_everybody(names: tuple[str, ...], namespace: str, pods: list[str]) -> None:
    with pytest.raises(ValueError, match="a query"):
        of_pods(names, namespace, pods)


def test_pods_are_asked_for_in_batches_by_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_POD_BYTES", 20)
    pods = [f"pod-{number}" for number in range(7)] + ["a-very-long-name-of-a-pod"]
    found = list(batches(pods, most=3))
    assert sorted(itertools.chain(*found)) == sorted(pods)
    assert [len(one) for one in found] == [1, 3, 3, 1]
    assert list(batches([])) == []


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        pytest.param(VLLM, {"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}, id="vLLM, of V1 and V0"),
        pytest.param(
            VLLM,
            {
                "vllm:inter_token_latency_seconds_bucket",
                "vllm:time_per_output_token_seconds_bucket",
                "vllm:request_time_per_output_token_seconds_bucket",
                "vllm:e2e_request_latency_seconds_bucket",
            },
            id="vLLM's times between tokens, old and new",
        ),
        pytest.param(SGLANG, {"sglang:num_queue_reqs", "sglang:max_total_num_tokens", "sglang:num_pages"}, id="SGLang"),
        pytest.param(TRT_LLM, {"trtllm_num_requests_waiting", "trtllm_kv_cache_max_blocks"}, id="TensorRT-LLM"),
    ],
)
def test_names_of_engines(engine: EngineNames, names: set[str]) -> None:
    assert names <= set(engine.all_series)


def test_the_newer_of_two_names_is_preferred() -> None:
    places = VLLM.places
    assert places["vllm:kv_cache_usage_perc"].rank < places["vllm:gpu_cache_usage_perc"].rank
    new, old = "vllm:inter_token_latency_seconds_bucket", "vllm:time_per_output_token_seconds_bucket"
    assert places[new].rank < places[old].rank
    assert places[new].signal is places[old].signal is Signal.ITL


def test_the_past_is_asked_for_without_histograms() -> None:
    assert not [name for name in VLLM.without_histograms if name.endswith("_bucket")]
    assert "vllm:request_success_total" in VLLM.without_histograms


def test_names_of_a_service_take_the_place_of_the_engines() -> None:
    metrics = EngineMetrics(waiting="ray_vllm:num_requests_waiting", kv_cache_tokens="my_tokens")
    found = names_of(Engine(type=EngineType.VLLM, metrics=metrics))
    assert found.parts[Signal.WAITING] == (("ray_vllm:num_requests_waiting",),)
    assert found.parts[Signal.RUNNING] == VLLM.parts[Signal.RUNNING]
    assert found.parts[Signal.KV_TOKENS] == (("my_tokens",),)
    assert Signal.KV_INFO not in found.parts, "its own size of the cache counts, not the engine's"


def test_an_engine_of_ones_own_has_the_names_that_are_given_and_no_others() -> None:
    metrics = EngineMetrics(waiting="w", running="r", requests_arrived="came_total", end_to_end="whole")
    found = names_of(Engine(type=EngineType.CUSTOM, metrics=metrics))
    assert set(found.all_series) == {"w", "r", "came_total", "whole_bucket", "process_start_time_seconds"}


def test_every_name_of_every_engine_is_one_and_belongs_once() -> None:
    for engine in (VLLM, SGLANG, TRT_LLM):
        names = [name for parts in engine.parts.values() for part in parts for name in part]
        assert len(names) == len(set(names))
