"""The schema of values: what makes no sense is refused before anything is made, with the path of the value."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from harness.chart import CHART, RefusedError, manifest

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
FREE = {"global"}  # Helm's own

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no operator": ({"replicaCount": 0}, "replicaCount"),
    "operators by the dozen": ({"replicaCount": 12}, "replicaCount"),
    "half an operator": ({"replicaCount": 1.5}, "replicaCount"),
    "a count in words": ({"replicaCount": "two"}, "replicaCount"),
    "an image with a tag in its name": ({"image": {"repository": "Stowage Image"}}, "image/repository"),
    "a tag with a blank": ({"image": {"tag": "1.0 beta"}}, "image/tag"),
    "a short digest": ({"image": {"digest": "sha256:abc"}}, "image/digest"),
    "an unknown pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
    "a pull secret by its bare name": ({"image": {"pullSecrets": ["registry"]}}, "image/pullSecrets/0"),
    "a name with capitals": ({"fullnameOverride": "Stowage"}, "fullnameOverride"),
    "a name too long for labels": ({"fullnameOverride": "x" * 41}, "fullnameOverride"),
    "an unknown log level": ({"operator": {"logLevel": "verbose"}}, "operator/logLevel"),
    "an unknown log format": ({"operator": {"logFormat": "xml"}}, "operator/logFormat"),
    "no solver": ({"operator": {"solverWorkers": 0}}, "operator/solverWorkers"),
    "a negative seed": ({"operator": {"seed": -1}}, "operator/seed"),
    "a lease shorter than its renewal": ({"operator": {"leaseSeconds": 2}}, "operator/leaseSeconds"),
    "no memory limit": ({"operator": {"resources": {"limits": {"memory": None}}}}, "operator/resources/limits"),
    "a quantity with a wrong unit": ({"operator": {"resources": {"requests": {"cpu": "1 core"}}}}, "requests/cpu"),
    "a toleration with a wrong effect": ({"operator": {"tolerations": [{"effect": "Never"}]}}, "tolerations/0/effect"),
    "a secret in the environment": (
        {"operator": {"extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}},
        "extraEnv/0/valueFrom",
    ),
    "a label value with blanks": ({"commonLabels": {"team": "a b"}}, "commonLabels/team"),
    "a label by which Helm finds its objects": ({"commonLabels": {"helm.sh/chart": "mine"}}, "commonLabels"),
    "a label by which Services find the operator": (
        {"operator": {"podLabels": {"app.kubernetes.io/name": "mine"}}},
        "operator/podLabels",
    ),
    "a label by which Services find the scheduler": (
        {"scheduler": {"podLabels": {"app.kubernetes.io/component": "mine"}}},
        "scheduler/podLabels",
    ),
    "more namespaces than a policy's expression holds": (
        {"watchNamespaces": [f"team-{number}" for number in range(65)]},
        "watchNamespaces",
    ),
    "a namespace with an underscore": ({"watchNamespaces": ["team_a"]}, "watchNamespaces/0"),
    "a namespace twice": ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    "a Prometheus server down to its API": (
        {"prometheus": {"endpoints": [{"url": "http://prometheus:9090/api/v1/"}]}},
        "endpoints/0/url",
    ),
    "an unknown mode": ({"packing": {"defaultPolicy": {"mode": "Auto"}}}, "defaultPolicy/mode"),
    "an unknown steering": ({"packing": {"defaultPolicy": {"steering": "Gate"}}}, "defaultPolicy/steering"),
    "more moves than a plan holds": ({"packing": {"defaultPolicy": {"maxMovesPerPlan": 257}}}, "maxMovesPerPlan"),
    "a name that leaves plans none": (
        {"packing": {"defaultPolicy": {"name": "p" * 43}}},
        "defaultPolicy/name",
    ),
    "bindings without rights on nodes": (
        {"watchNamespaces": ["a"], "packing": {"defaultPolicy": {"steering": "Bind"}}},
        "defaultPolicy/steering",
    ),
    "the name of the default scheduler": ({"scheduler": {"schedulerName": "default-scheduler"}}, "schedulerName"),
    "more than all nodes": ({"scheduler": {"percentageOfNodesToScore": 101}}, "percentageOfNodesToScore"),
    "no requests per second": ({"scheduler": {"clientConnection": {"qps": 0}}}, "clientConnection/qps"),
    "a resource's name with a blank": ({"scheduler": {"managedResources": ["a gpu"]}}, "managedResources/0"),
    "two schedulers to follow": (
        {"scheduler": {"enabled": True}, "controlPlaneExtender": {"enabled": True, "holder": "n"}},
        "'not' failed",
    ),
    "a scheduler that nobody plans for": (
        {"packing": {"enabled": False}, "scheduler": {"enabled": True}},
        "scheduler/enabled",
    ),
    "an extender that nobody plans for": (
        {"packing": {"enabled": False}, "controlPlaneExtender": {"enabled": True, "holder": "n"}},
        "controlPlaneExtender/enabled",
    ),
    "an extender without holder": ({"controlPlaneExtender": {"enabled": True}}, "controlPlaneExtender/holder"),
    "an address that is none": ({"controlPlaneExtender": {"clusterIP": "extender"}}, "controlPlaneExtender/clusterIP"),
    "a failure policy in capitals": ({"webhook": {"failurePolicy": "IGNORE"}}, "webhook/failurePolicy"),
    "a policy that nobody is there to admit": ({"webhook": {"failurePolicy": "Fail"}}, "defaultPolicy/enabled"),
    "an issuer of another kind": ({"webhook": {"certManager": {"issuerRef": {"kind": "Vault"}}}}, "issuerRef/kind"),
    "a switch in words": ({"crds": {"keep": "yes"}}, "crds/keep"),
    "an interval without unit": ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "serviceMonitor/interval"),
    "a token in the open": (
        {"prometheus": {"endpoints": [{"url": "http://a", "bearerToken": {"secret": "a", "key": "b"}}]}},
        "endpoints/0/url",
    ),
    "a password in an address": ({"prometheus": {"endpoints": [{"url": "https://a:b@c"}]}}, "endpoints/0/url"),
    "a server's name as in code": (
        {"prometheus": {"endpoints": [{"name": "My_Server", "url": "https://a"}]}},
        "endpoints/0/name",
    ),
    "a rule without query": ({"training": {"promqlRules": [{"name": "a"}]}}, "promqlRules/0"),
    "a rule of jobs and of pods": (
        {"training": {"promqlRules": [{"name": "a", "query": "up", "labels": {"job": "a", "pod": "b"}}]}},
        "promqlRules/0/labels",
    ),
    "a rule with a label that is none": (
        {"training": {"promqlRules": [{"name": "a", "query": "up", "labels": {"namespace": "a-b"}}]}},
        "labels/namespace",
    ),
    "a network without length": ({"networkPolicy": {"apiServerCidrs": ["10.0.0.1"]}}, "apiServerCidrs/0"),
    "a port beyond all ports": ({"networkPolicy": {"apiServerPorts": [70000]}}, "apiServerPorts/0"),
    "no way to the API server": ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
    "a budget that blocks drains": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    "a budget that blocks drains, in percent": ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "maxUnavailable"),
    "a priority that is kept for the system": ({"priorityClass": {"value": 2000000000}}, "priorityClass/value"),
    "an account that nobody makes": ({"serviceAccount": {"create": False}}, "serviceAccount/name"),
    "a probe that never fails": ({"probes": {"liveness": {"failureThreshold": 0}}}, "liveness/failureThreshold"),
}


@pytest.mark.parametrize(("values", "place"), BAD.values(), ids=BAD.keys())
def test_a_bad_value_is_refused_where_it_stands(values: dict[str, Any], place: str) -> None:
    with pytest.raises(RefusedError) as refused:
        manifest(values)
    assert "values don't meet the specifications" in str(refused.value)
    assert place in str(refused.value)


def closed_places(
    values: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Paths of the mappings in values.yaml whose keys are fixed."""
    yield path
    for key, value in values.items():
        below = schema["properties"][key]
        if isinstance(value, dict) and "properties" in below:
            yield from closed_places(value, below, (*path, key))


@pytest.mark.parametrize("path", list(closed_places(VALUES, SCHEMA)), ids=lambda path: ".".join(path) or "top")
def test_a_key_that_is_not_known_is_refused(path: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"noSuchKey": 1}
    for key in reversed(path):
        values = {key: values}
    with pytest.raises(RefusedError, match="'noSuchKey' not allowed"):
        manifest(values)


def objects_of(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of the schema that says what properties an object has."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects_of(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects_of(value, f"{path}/{number}")


def test_every_object_of_the_schema_is_closed() -> None:
    found = dict(objects_of(SCHEMA))
    assert len(found) > 30
    assert [path for path, schema in found.items() if schema.get("additionalProperties") is not False] == []


def keys_of(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[tuple[set[str], set[str], str]]:
    yield set(values), set(schema["properties"]) - FREE, path
    for key, value in values.items():
        below = schema["properties"].get(key, {})
        if isinstance(value, dict) and "properties" in below:
            yield from keys_of(value, below, f"{path}.{key}")


def test_values_and_schema_know_the_same_keys() -> None:
    different = {path: have ^ known for have, known, path in keys_of(VALUES, SCHEMA) if have != known}
    assert different == {}


def test_every_value_is_explained() -> None:
    text = (CHART / "README.md").read_text()

    def leaves(values: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
        for key, value in values.items():
            below = schema["properties"][key]
            if isinstance(value, dict) and "properties" in below:
                yield from leaves(value, below, (*path, key))
            else:
                yield ".".join((*path, key))

    rows = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in text.splitlines() if line.count("|") > 4}
    unexplained = [leaf for leaf in leaves(VALUES, copy.deepcopy(SCHEMA)) if not rows.get(leaf)]
    assert unexplained == []


def test_the_values_of_a_chart_above_are_taken() -> None:
    assert manifest({"global": {"clusterDomain": "example.org"}})
