"""From soft rules of pods and images of nodes to facts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stowage_scheduler.cluster import LabelSelector, Node, Pod, PodAffinityTerm, WeightedPodTerm
from stowage_scheduler.images import UNKNOWN, image_list, listed_images
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.image_facts import image_id
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.redact import redact

TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
DB = LabelSelector((("app", "db"),))


def pod_document(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "v2"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def node_document(*images: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"images": list(images)}}


def pod_fact(document: dict[str, Any]) -> Pod:
    fact = fact_of(decode_object("Pod", json.dumps(document).encode()))
    assert isinstance(fact, Pod)
    return fact


def node_fact(document: dict[str, Any]) -> Node:
    fact = fact_of(decode_object("Node", json.dumps(document).encode()))
    assert isinstance(fact, Node)
    return fact


def preferring(kind: str, weight: int = 7, **term: Any) -> dict[str, Any]:
    one = {"weight": weight, "podAffinityTerm": TERM | term}
    return pod_document(affinity={kind: {"preferredDuringSchedulingIgnoredDuringExecution": [one]}})


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        pytest.param(
            preferring("podAffinity"), WeightedPodTerm(7, PodAffinityTerm("zone", DB, ("shop",))), id="own namespace"
        ),
        pytest.param(
            preferring("podAntiAffinity"),
            WeightedPodTerm(-7, PodAffinityTerm("zone", DB, ("shop",))),
            id="anti-affinity has a negative weight",
        ),
        pytest.param(
            preferring("podAffinity", namespaces=["a", "b"]),
            WeightedPodTerm(7, PodAffinityTerm("zone", DB, ("a", "b"))),
            id="named namespaces",
        ),
        pytest.param(
            preferring("podAffinity", namespaceSelector={}),
            WeightedPodTerm(7, PodAffinityTerm("zone", DB, (), LabelSelector())),
            id="selected namespaces",
        ),
    ],
)
def test_preferred_pods(document: dict[str, Any], wanted: WeightedPodTerm) -> None:
    fact = pod_fact(document)
    assert fact.preferred_pods == (wanted,)
    assert (fact.affinity_terms, fact.anti_affinity_terms) == ((), ())


@pytest.mark.parametrize("weight", [0, 101, 10**30])
def test_no_api_server_takes_such_a_weight(weight: int) -> None:
    with pytest.raises(MalformedObject):
        pod_fact(preferring("podAffinity", weight))


def test_wished_spread_is_no_rule() -> None:
    constraints = [
        {
            "topologyKey": key,
            "maxSkew": 2,
            "whenUnsatisfiable": action,
            "labelSelector": {"matchLabels": {"app": "web"}},
        }
        | ({"matchLabelKeys": ["pod-template-hash"]} if action == "ScheduleAnyway" else {})
        for key, action in (("zone", "ScheduleAnyway"), ("host", "DoNotSchedule"))
    ]
    fact = pod_fact(pod_document(topologySpreadConstraints=constraints))
    assert [one.topology_key for one in fact.spread] == ["host"]
    assert [one.topology_key for one in fact.preferred_spread] == ["zone"]
    assert fact.preferred_spread[0].selector == LabelSelector((("app", "web"), ("pod-template-hash", "v2")))
    assert fact.topology_keys == ("host",)  # a node without a zone is open all the same


@pytest.mark.parametrize(
    ("name", "as_on_the_node"),
    [
        ("team/web", "team/web:latest"),
        ("web:1.2", "web:1.2"),
        ("example.com:5000/web", "example.com:5000/web:latest"),
        ("web@sha256:00", "web@sha256:00"),
    ],
)
def test_images_meet_by_name(name: str, as_on_the_node: str) -> None:
    pod = pod_fact(pod_document(containers=[{"image": name}], initContainers=[{"image": "setup:1"}]))
    node = node_fact(node_document({"names": [as_on_the_node, "other"], "sizeBytes": 5}))
    assert set(pod.images) == {image_id(name), image_id("setup:1")}
    ids, sizes = listed_images(node.images)
    assert (ids.tolist()[0], sizes.tolist()) == (image_id(name), [5, 5])


def test_nodes_share_what_they_know_of_images() -> None:
    image = {"names": ["web:1"], "sizeBytes": -5}
    assert node_fact(node_document(image)).images == image_list([(image_id("web:1"), 0)])
    assert node_fact(node_document(image)).images is node_fact(node_document(image)).images


@pytest.mark.parametrize(("images", "found"), [(b"", []), (image_list([(3, 4)]), [3]), (b"broken", [])])
def test_what_is_no_list_of_images_has_none(images: bytes, found: list[int]) -> None:
    assert listed_images(images)[0].tolist() == found


def test_a_container_without_an_image_counts() -> None:
    assert pod_fact(pod_document(containers=[{"name": "a"}, {"image": "b"}])).images == tuple(
        sorted((UNKNOWN, image_id("b")))
    )
    assert pod_fact(pod_document(containers=[{"name": "a"}])).images == ()


def test_a_dump_tells_images_apart_and_not_their_names() -> None:
    pod, node = pod_document(containers=[{"image": "secret/web:1"}]), node_document({"names": ["secret/web:1"]})
    redacted = [json.loads(json.dumps(redact(document))) for document in (pod, node)]
    assert "secret" not in json.dumps(redacted)
    assert pod_fact(redacted[0]) == pod_fact(pod)
    assert node_fact(redacted[1]) == node_fact(node)
    assert json.loads(json.dumps([redact(document) for document in redacted])) == redacted
