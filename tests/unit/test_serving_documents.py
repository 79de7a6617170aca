"""What a service is made of: names, labels, owners, and the template as it was written with little added."""

from __future__ import annotations

from typing import Any

import pytest

from harness.serving_children import CONTAINER, NOW, role, service, variant
from stowage.api.model_service import ModelService
from stowage.decide.serving.children import deployment, disruption_budget, names, services
from stowage.decide.serving.group_children import group_documents

Document = dict[str, Any]


def made(of: ModelService, replicas: int | None = 3, until: float | None = None) -> Document:
    first = of.spec.roles[0]
    return deployment(of, first, first.variants[0], replicas, until)


def pod_spec(**spec: Any) -> Document:
    one = {"name": "default", "template": {"spec": {"containers": [CONTAINER], **spec}}}
    found: Document = made(service(role(variants=[one])))["spec"]["template"]["spec"]
    return found


LABELS = {"stowage.dev/service": "llama", "stowage.dev/role": "unified", "stowage.dev/variant": "default"}


def test_a_deployment_is_owned_by_its_service_and_selects_pods_that_drain_too() -> None:
    found = made(service())
    assert found["metadata"]["name"] == "llama-unified-default"
    assert [one["uid"] for one in found["metadata"]["ownerReferences"]] == ["service-uid"]
    assert found["spec"]["selector"]["matchLabels"] == LABELS
    assert found["spec"]["template"]["metadata"]["labels"] == LABELS | {"stowage.dev/takes-requests": "true"}
    assert found["spec"]["replicas"] == 3


def test_replicas_that_somebody_else_owns_are_left_out() -> None:
    assert "replicas" not in made(service(), None)["spec"]


def test_a_roll_out_brings_new_replicas_before_old_ones_go() -> None:
    rolling = made(service())["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_template_keeps_its_own_labels_annotations_and_unknown_fields() -> None:
    one = variant()
    one["template"]["metadata"] = {"labels": {"team": "a"}, "annotations": {"prometheus.io/scrape": "true"}}
    one["template"]["spec"]["runtimeClassName"] = "nvidia"
    template = made(service(role(variants=[one])))["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}
    assert template["spec"]["runtimeClassName"] == "nvidia"
    assert template["spec"]["containers"][0]["resources"] == CONTAINER["resources"]


SLEEP_10 = {"preStop": {"sleep": {"seconds": 10}}}
ENDS = [
    pytest.param({}, 40, SLEEP_10, id="nothing is said: time for proxies, then that of Kubernetes"),
    pytest.param({"terminationGracePeriodSeconds": 120}, 120, SLEEP_10, id="a grace period stays"),
    pytest.param(
        {"terminationGracePeriodSeconds": 8},
        8,
        {"preStop": {"sleep": {"seconds": 4}}},
        id="half of a short one at most",
    ),
    pytest.param({"terminationGracePeriodSeconds": 1}, 1, None, id="none of one second"),
    pytest.param(
        {"containers": [CONTAINER | {"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}]},
        40,
        {"preStop": {"exec": {"command": ["x"]}}},
        id="a hook of one's own stays",
    ),
    pytest.param(
        {"containers": [CONTAINER | {"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]},
        40,
        SLEEP_10 | {"postStart": {"exec": {"command": ["x"]}}},
        id="beside another hook",
    ),
]


@pytest.mark.parametrize(("spec", "grace", "lifecycle"), ENDS)
def test_a_replica_is_forgotten_before_it_ends(spec: Document, grace: int, lifecycle: Document | None) -> None:
    found = pod_spec(**spec)
    assert found["terminationGracePeriodSeconds"] == grace
    assert found["containers"][0].get("lifecycle") == lifecycle


def test_only_the_engine_gets_the_hook() -> None:
    found = pod_spec(containers=[{"name": "proxy", "image": "p"}, CONTAINER])
    assert ["lifecycle" in one for one in found["containers"]] == [False, True]


def test_services_send_requests_to_replicas_that_take_them() -> None:
    of = service(role("prefill"), role("decode"), engine={"type": "Sglang"})
    found = services(of)
    assert [one["metadata"]["name"] for one in found] == ["llama", "llama-prefill", "llama-decode"]
    assert [one["spec"]["selector"]["stowage.dev/role"] for one in found] == ["prefill", "prefill", "decode"]
    assert all(one["spec"]["selector"]["stowage.dev/takes-requests"] == "true" for one in found)
    assert {one["spec"]["ports"][0]["targetPort"] for one in found} == {30000}
    port = services(service(engine={"port": 9000}))[0]["spec"]["ports"][0]
    assert (port["port"], port["targetPort"]) == (9000, 9000)


def test_a_disruption_budget_is_of_all_replicas_of_a_role() -> None:
    of = service()
    found = disruption_budget(of, of.spec.roles[0])
    assert found["metadata"]["name"] == "llama-unified"
    assert found["spec"]["maxUnavailable"] == 1
    assert found["spec"]["selector"]["matchLabels"] == {
        "stowage.dev/service": "llama",
        "stowage.dev/role": "unified",
    }


def test_the_time_out_of_stock_is_an_annotation_of_the_deployment_alone() -> None:
    found = made(service(), 3, NOW)
    assert found["metadata"]["annotations"] == {"stowage.dev/out-of-stock-until": "1970-01-12T13:46:40Z"}
    assert "annotations" not in found["spec"]["template"]["metadata"]


def test_names_are_those_of_all_children() -> None:
    wide = variant("wide", group={"size": 2})
    of = service(role("prefill", variants=[variant(), wide]), role("decode"))
    made_of = [
        *services(of),
        *(disruption_budget(of, one) for one in of.spec.roles),
        *(deployment(of, one, one.variants[0], 1) for one in of.spec.roles),
        *group_documents(of, {}),
    ]
    assert names(of) == {(one["kind"], one["metadata"]["name"]) for one in made_of}
