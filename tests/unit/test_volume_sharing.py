"""Claims that several pods use, or that one pod alone may use."""

from __future__ import annotations

import pytest

from harness.volume_documents import (
    Document,
    claim,
    csi_driver,
    pod,
    volume,
)
from stowage_scheduler.cluster import Unmodelled
from unit.volume_cases import EVERYWHERE, admitting, resolved

ONE = ("ReadWriteOncePod",)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        pytest.param([], "", id="nobody"),
        pytest.param(
            [pod("o", "c", on="b")], "claim c is for one pod at a time, and team/o has it", id="one that runs"
        ),
        pytest.param(
            [pod("o", "c", on="b", deletionTimestamp="2026-01-01T00:00:00Z")],
            "claim c is for one pod at a time, and team/o has it",
            id="one that is going",
        ),
        pytest.param([{**pod("o", "c", on="b"), "status": {"phase": "Succeeded"}}], "", id="one that has ended"),
        pytest.param(
            [pod("o", "c")], "claim c is for one pod at a time, and team/o has it", id="one that waits before"
        ),
        pytest.param([pod("q", "c")], "", id="one that waits behind"),
    ],
)
def test_a_claim_for_one_pod(others: list[Document], words: str) -> None:
    found = resolved(pod("p", "c"), *others, claim("c", "v", modes=ONE), volume("v", modes=ONE))
    assert found.volume_obstacle == words


@pytest.mark.parametrize(
    ("items", "nodes", "stays"),
    [
        pytest.param([claim("c", "v"), volume("v")], {"b"}, True, id="one node at a time"),
        pytest.param(
            [claim("c", "v"), volume("v", modes=("ReadWriteOnce", "ReadOnlyMany"))],
            EVERYWHERE,
            False,
            id="a volume for many nodes",
        ),
        pytest.param([claim("c", "v"), volume("v", driver=None, nfs={})], EVERYWHERE, False, id="nothing to attach"),
        pytest.param(
            [claim("c", "v"), volume("v"), csi_driver(attachRequired=False)],
            EVERYWHERE,
            False,
            id="a driver that mounts",
        ),
        pytest.param([claim("c", "v"), volume("v"), csi_driver()], {"b"}, True, id="a driver that attaches"),
    ],
)
def test_pods_that_share_a_volume(items: list[Document], nodes: set[str], stays: bool) -> None:
    pods = [pod("p", "c"), pod("o", "c", on="b")]
    assert admitting(*pods, *items) == nodes
    assert resolved(*pods, *items, name="o").shared_volume is stays


def test_a_pod_that_is_going_keeps_nobody_at_its_node() -> None:
    leaving = pod("o", "c", on="b", deletionTimestamp="2026-01-01T00:00:00Z")
    assert admitting(pod("p", "c"), leaving, claim("c", "v"), volume("v")) == EVERYWHERE


def test_of_pods_that_share_a_volume_and_wait_the_first_is_planned_for() -> None:
    items = [pod("p", "c"), pod("q", "c"), claim("c", "v"), volume("v")]
    assert [resolved(*items, name=name).unmodelled for name in "pq"] == [(), (Unmodelled.VOLUMES,)]
