"""How long requests are: queries for histograms, what comes of their answers, and what is not known."""

from __future__ import annotations

import math
from typing import cast

import pytest

from harness.serving_children import role, service, variant
from stowage.decide.samples import Sample
from stowage.decide.serving.capacity import Shape
from stowage.decide.serving.request_sizes import Lengths, lengths_of, shape_of
from stowage.observe.prometheus import Prometheus
from stowage.observe.serving.sizes import counts_of, size_query
from stowage.run.serving_lengths import lengths_by


def test_the_server_adds_up_all_pods_of_the_deployments() -> None:
    assert size_query("vllm:request_prompt_tokens", "team", ["chat-unified-h100"], 3600.0) == (
        'sum by (le) (increase({__name__=~"vllm:request_prompt_tokens_bucket",namespace="team",'
        'pod=~"(?:chat-unified-h100)-[a-z0-9]{1,10}-[a-z0-9]{5}"}[3600s]))'
    )


class Server:
    """Keeps what it is asked, and knows nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, query: str) -> tuple[Sample, ...]:
        self.asked.append(query)
        return ()


async def test_replicas_of_several_pods_are_asked_too() -> None:
    server = Server()
    wide = variant("wide", group={"size": 2})
    await lengths_by(cast("Prometheus", server), service(role(variants=[variant("one"), wide])), "unified")
    pods = "(?:llama-unified-one)-[a-z0-9]{1,10}-[a-z0-9]{5}|(?:llama-unified-wide)-[0-9]{1,6}-[0-9]{1,6}-0"
    assert [f'pod=~"{pods}"' in one for one in server.asked] == [True, True]


def samples(**by_bound: float) -> list[Sample]:
    return [Sample({"le": bound}, value, 0.0) for bound, value in by_bound.items()]


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        pytest.param({"100": 5.0, "+Inf": 9.0}, {100.0: 5.0, math.inf: 9.0}, id="cumulative"),
        pytest.param({"100": 5.0, "200": 4.9, "+Inf": 9.0}, {100.0: 5.0, 200.0: 5.0, math.inf: 9.0}, id="rounded down"),
        pytest.param({"100": math.nan, "+Inf": 9.0}, {math.inf: 9.0}, id="no number"),
        pytest.param({"x": 1.0, "": 2.0, "-5": 3.0}, {}, id="no bounds"),
    ],
)
def test_answers(answer: dict[str, float], counts: dict[float, float]) -> None:
    assert counts_of(samples(**answer)) == counts


def test_lengths_of_requests_that_are_alike() -> None:
    found = lengths_of({500.0: 0.0, 1000.0: 200.0, math.inf: 200.0})
    assert found is not None
    assert (found.requests, found.mean, found.variation) == (200.0, pytest.approx(707, rel=0.01), 0.0)


def test_lengths_that_scatter() -> None:
    found = lengths_of({100.0: 100.0, 1000.0: 100.0, 2000.0: 200.0, math.inf: 200.0})
    assert found is not None
    assert found.mean == pytest.approx((50 + 1414) / 2, rel=0.01)
    assert found.variation == pytest.approx(0.93, abs=0.02)


@pytest.mark.parametrize(
    "counts", [{}, {100.0: 10.0, math.inf: 20.0}, {math.inf: math.nan}], ids=["none", "few", "no number"]
)
def test_too_few_requests_say_nothing(counts: dict[float, float]) -> None:
    assert lengths_of(counts) is None


def test_what_was_not_counted_is_as_it_was_known() -> None:
    known = Shape(500.0, 100.0, 1.0, 1.0)
    assert shape_of(None, Lengths(90, 200.0, 0.5), known) == Shape(500.0, 200.0, 1.0, 0.5)
