"""Attachments of volumes are a resource where a driver has a limit."""

from __future__ import annotations

import pytest

from harness.volume_documents import (
    WAITING,
    Document,
    claim,
    csi_node,
    pod,
    storage_class,
    volume,
)
from stowage_scheduler.kube.volume_resolution import UNLIMITED
from unit.volume_cases import IMMEDIATE, LIMIT, MANY, RESOURCE, snapshot


def attached(*items: Document) -> dict[str, int]:
    """By pod, what it attaches through the driver."""
    return {one.name: one.requests.get(RESOURCE, 0) for one in snapshot(*items).pods}


def test_attachments_are_a_resource_where_a_driver_has_a_limit() -> None:
    found = snapshot(pod("p", "c", "d"), claim("c", "v"), volume("v"), claim("d", "w"), volume("w"), *LIMIT)
    assert found.pods[0].requests == {"pods": 1, "cpu": 1000, RESOURCE: 2}
    assert [one.allocatable[RESOURCE] for one in found.nodes] == [3, UNLIMITED, UNLIMITED]


def test_without_limits_nothing_is_counted() -> None:
    found = snapshot(pod("p", "c"), claim("c", "v"), volume("v"), csi_node("a"))
    assert RESOURCE not in found.pods[0].requests
    assert RESOURCE not in found.nodes[0].allocatable


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        pytest.param(
            [pod("p", "c"), claim("c", storage_class=WAITING), storage_class()], {"p": 1}, id="a volume to be made"
        ),
        pytest.param(
            [pod("p", "c"), claim("c", "v"), volume("v", driver="other")], {"p": 0}, id="a driver without a limit"
        ),
        pytest.param(
            [pod("p", "c", on="a"), pod("q", "c", on="a"), claim("c", "v"), volume("v")],
            {"p": 1, "q": 0},
            id="pods that stay attach a volume once",
        ),
        pytest.param(
            [pod("p", "c", on="a"), pod("q", "c", on="a"), claim("c", "v", modes=MANY), volume("v", modes=MANY)],
            {"p": 1, "q": 1},
            id="pods that may move take it along",
        ),
        pytest.param(
            [
                pod("p", "c", on="a"),
                {**pod("q", "c", on="a"), "status": {"phase": "Failed"}},
                claim("c", "v"),
                volume("v"),
            ],
            {"p": 1, "q": 0},
            id="a pod that has ended holds nothing",
        ),
        pytest.param(
            [pod("p", "c", "c"), claim("c", "v"), volume("v")],
            {"p": 1},
            id="a claim that is mounted twice",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", bound=False), volume("v")],
            {"p": 1},
            id="a pod that stands with a claim which is not bound yet",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", storage_class="immediate"), IMMEDIATE],
            {"p": 1},
            id="a pod that stands with a claim whose volume is not made yet",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", storage_class="immediate"), IMMEDIATE, volume("w")],
            {"p": 1},
            id="a pod that stands with a claim whose volume is gone: its class tells the driver",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", deleted=True), volume("v")],
            {"p": 1},
            id="a pod that stands with a claim that is being deleted",
        ),
        pytest.param([pod("p", "c", on="a"), claim("d", "v"), volume("v")], {"p": 0}, id="a claim that is not there"),
    ],
)
def test_what_counts_as_an_attachment(items: list[Document], counts: dict[str, int]) -> None:
    assert attached(*items, *LIMIT) == counts
