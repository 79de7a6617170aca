"""Equal parts of facts are kept once, and never mixed up."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest

from harness.large_objects import LargeCluster
from stowage_scheduler.cluster import Pod
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.sharing import Memo, shared

OBJECTS = LargeCluster(nodes=10, pods=100)


def pod() -> dict[str, Any]:
    """A pod of its own, to be changed."""
    return deepcopy(OBJECTS.pod(0))


def read(document: dict[str, Any]) -> Pod:
    fact = fact_of(decode_object("Pod", msgspec.json.encode(document)))
    assert isinstance(fact, Pod)
    return fact


@pytest.mark.parametrize("part", ["namespace", "labels", "requests", "owner", "tolerations", "scheduler_name"])
def test_replicas_share_what_is_of_their_template(part: str) -> None:
    first, second, other = (read(OBJECTS.pod(number)) for number in (0, 1, 60))
    assert getattr(first, part) is getattr(second, part)
    if part in {"labels", "requests", "owner"}:
        assert getattr(first, part) != getattr(other, part)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(("spec", "containers", 0, "resources", "requests", "cpu"), "7", id="a container's request"),
        pytest.param(("spec", "overhead"), {"cpu": "1"}, id="overhead"),
        pytest.param(("spec", "resources"), {"requests": {"cpu": "9"}}, id="request of the pod"),
        pytest.param(("status", "containerStatuses", 0, "allocatedResources", "cpu"), "7", id="allocated"),
        pytest.param(("spec", "initContainers"), [{"name": "i", "resources": {"requests": {"cpu": "9"}}}], id="init"),
    ],
)
def test_requests_that_differ_are_not_shared(place: tuple[Any, ...], value: Any) -> None:
    alike, changed = pod(), pod()
    part: Any = changed
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    assert read(alike).requests["cpu"] < read(changed).requests["cpu"]
    assert read(alike) == read(alike)


def test_what_the_status_tells_counts_for_bound_pods_alone() -> None:
    bound, waiting = pod(), pod()
    del waiting["spec"]["nodeName"]
    for document in (bound, waiting):
        document["status"]["containerStatuses"][0]["allocatedResources"] = {"cpu": "7"}
    assert read(bound).requests["cpu"] == read(waiting).requests["cpu"] + 7000 - 250


def test_a_refusal_names_its_own_field_each_time() -> None:
    for field, label in (("metadata.labels", "labels"), ("spec.nodeSelector", "nodeSelector")):
        document = pod()
        (document["metadata"] if label == "labels" else document["spec"])[label] = {"team": "x" * 64}
        with pytest.raises(MalformedObject) as caught:
            read(document)
        assert caught.value.rejected.field == f"{field}[team]"


def test_what_is_remembered_is_bounded() -> None:
    memo: Memo[list[int]] = Memo(most=2)
    made = [memo.of(number, lambda number=number: [number]) for number in (1, 2, 1, 3, 1)]
    assert made == [[1], [2], [1], [3], [1]]
    assert made[0] is made[2]
    assert made[0] is not made[4]


def test_equal_values_become_one() -> None:
    one, other = ("a", ("b",)), ("a", tuple("b"))
    assert shared(one) is shared(other)
