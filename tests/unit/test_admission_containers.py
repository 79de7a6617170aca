"""Containers of which no pod could be made are refused, in services and in jobs alike."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.admission.judge import judge
from stowage.admission.known import Known
from unit.admission_requests import request

Document = dict[str, Any]
QUANTITY = "must be a Kubernetes quantity such as 500m, 2 or 1.5Gi"


def container(**fields: Any) -> Document:
    return {"name": "engine", "image": "a", "command": ["serve"], "readinessProbe": {}, **fields}


def asking(part: str, name: str, amount: object) -> Document:
    return container(resources={part: {name: amount}})


def resource(kind: str, spec: Document) -> Document:
    metadata = {"name": "llama", "namespace": "team-a", "uid": "u-1"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def service(*containers: Document, workers: Document | None = None, **pod: Any) -> Document:
    group = {"group": {"size": 2, "workers": {"spec": workers}}} if workers else {}
    variant = {"template": {"spec": {"containers": list(containers), **pod}}, **group}
    return resource("ModelService", {"roles": [{"variants": [variant]}]})


def problems(document: Document) -> list[tuple[str, str, str]]:
    return [one.told for one in judge(request(document, None), Known()).problems]


@pytest.mark.parametrize(
    ("given", "field", "value", "rule"),
    [
        pytest.param(container(image=""), ".image", "(absent)", "must be given", id="no image"),
        pytest.param(
            container(image=True), ".image", "True", "must be text; give it in quotes", id="one that YAML takes for yes"
        ),
        pytest.param(asking("requests", "cpu", "1 core"), ".resources.requests[cpu]", "1 core", QUANTITY, id="words"),
        pytest.param(
            asking("limits", "cpu", -1), ".resources.limits[cpu]", "-1", "must not be negative", id="less than nothing"
        ),
        pytest.param(
            asking("limits", "nvidia.com/gpu", "0.5"),
            ".resources.limits[nvidia.com/gpu]",
            "0.5",
            "must be a whole number: such a resource has no parts",
            id="half a GPU",
        ),
        pytest.param(
            asking("limits", "nvidia.com/gpu", "9" * 5000),
            ".resources.limits[nvidia.com/gpu]",
            "9" * 80,
            QUANTITY,
            id="GPUs beyond what can be read",
        ),
    ],
)
def test_what_no_pod_can_be_made_of(given: Document, field: str, value: str, rule: str) -> None:
    assert problems(service(given)) == [(f"spec.roles[0].variants[0].template.spec.containers[0]{field}", value, rule)]
    job = resource("TrainingJob", {"template": {"spec": {"containers": [given]}}})
    assert problems(job) == [(f"spec.template.spec.containers[0]{field}", value, rule)]


def test_words_that_yaml_takes_for_numbers_are_refused_and_values_of_variables_not_shown() -> None:
    given = container(
        command=["serve", None], args=["--port", 8000], env=[{"name": "A"}, {"name": "PIN", "value": 9431}]
    )
    place, text = "spec.roles[0].variants[0].template.spec", "must be text; give it in quotes"
    assert problems(service(container(name="a"), initContainers=[given])) == [
        (f"{place}.initContainers[0].args[1]", "8000", text),
        (f"{place}.initContainers[0].env[1].value", "(not shown)", text),
    ]


def test_containers_of_all_templates_are_looked_at() -> None:
    bad = container(image="")
    found = problems(service(container(), workers={"containers": [bad]}, initContainers=[bad]))
    place = "spec.roles[0].variants[0]"
    assert [field for field, _, _ in found] == [
        f"{place}.template.spec.initContainers[0].image",
        f"{place}.group.workers.spec.containers[0].image",
    ]


@pytest.mark.parametrize("amount", ["500m", 2, "1.5Gi", "2e3", 0, None], ids=str)
def test_what_kubernetes_takes_for_an_amount_is_let_through(amount: object) -> None:
    assert problems(service(asking("requests", "memory", amount))) == []
