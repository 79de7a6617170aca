"""ModelServices and PerformanceProfiles as Python reads them: what the API server refuses is refused here too."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.api.model_service import ModelService, Ratio
from stowage.api.model_service_engine import Engine
from stowage.api.names import API_VERSION
from stowage.api.performance_profile import PerformanceProfile
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.profile_resource import performance_of
from unit.admission_requests import request

FOLDER = Path(__file__).parents[1] / "integration"
CASES = yaml.safe_load((FOLDER / "model_service_cases.yaml").read_text(encoding="utf-8"))
PROFILES = yaml.safe_load((FOLDER / "performance_profile_cases.yaml").read_text(encoding="utf-8"))
FIVE_LINES = """\
apiVersion: stowage.dev/v1alpha1
kind: ModelService
metadata: {name: llama}
spec:
  roles: [{variants: [{template: {spec: {containers: [{name: engine, image: "vllm/vllm-openai:v0.11.0"}]}}}]}]
"""


def service(case: Mapping[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(CASES["service"]) | copy.deepcopy(dict(case.get("spec", {})))
    if spec["roles"]:
        spec["roles"][0] |= case.get("role", {})
    if spec["roles"] and spec["roles"][0]["variants"]:
        variant = spec["roles"][0]["variants"][0]
        variant |= case.get("variant", {})
        if "pod" in case:
            variant["template"]["spec"] |= case["pod"]
    return {"metadata": {"name": case.get("name", "service"), "namespace": "a"}, "spec": spec}


def profile(case: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "profile"}, "spec": {**PROFILES["profile"], **case["spec"]}}


def cases(group: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in group]


def refusal(model: type[ModelService | PerformanceProfile], document: dict[str, Any]) -> InvalidObjectError:
    with pytest.raises(InvalidObjectError) as refused:
        model.parse(document)
    return refused.value


@pytest.mark.parametrize("case", cases(CASES["services"]))
def test_services_agree_with_the_api_server(case: dict[str, Any]) -> None:
    document = service(case)
    if "field" not in case:
        assert ModelService.parse(document).name == document["metadata"]["name"]
        return
    message = str(refusal(ModelService, document))
    assert case["field"] in message
    assert message.startswith("ModelService ")
    assert "\n" not in message


@pytest.mark.parametrize("case", cases(PROFILES["profiles"]))
def test_profiles_agree_with_the_api_server(case: dict[str, Any]) -> None:
    if "field" not in case:
        found = performance_of(PerformanceProfile.parse(profile(case)).spec)
        assert found.lone_prefill_seconds(1000) > found.decode_step_seconds(1, 1000) > 0
        return
    message = str(refusal(PerformanceProfile, profile(case)))
    assert case["field"] in message
    assert message.startswith("PerformanceProfile ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("case", "field", "value", "rule"),
    [
        pytest.param(
            {"role": {"bounds": {"min": 11}}},
            "spec.roles[0].bounds",
            "{'min': 11}",
            "bounds.max must not be less than bounds.min",
            id="a least above the usual most",
        ),
        pytest.param(
            {"spec": {"engine": {"type": "Custom"}}},
            "spec.engine",
            "{'type': 'Custom'}",
            "engine.metrics must name waiting and running with type Custom: no names are known for it",
            id="an engine whose metrics nobody knows",
        ),
        pytest.param(
            {"spec": {"slo": {"endToEnd": "5s", "attainment": "1"}}},
            "spec.slo.attainment",
            "'1'",
            "must be between 0.5 and 0.9999",
            id="no request may ever fail",
        ),
        pytest.param(
            {"spec": {"engine": {"metrics": {"endToEnd": "my_seconds_sum"}}}},
            "spec.engine.metrics.endToEnd",
            "'my_seconds_sum'",
            "must be the name of a histogram without _bucket, _sum or _count at its end",
            id="part of a histogram",
        ),
        pytest.param(
            {"pod": {"restartPolicy": "Never"}},
            "spec.roles[0].variants[0].template.spec",
            "{'containers': […], 'restartPolicy': 'Never'}",
            "restartPolicy must be left out, or Always: an engine that ends is started again",
            id="an engine that ends",
        ),
        pytest.param(
            {"pod": {"containers": [{"name": "e", "env": [{"name": "A", "value": "secret"}], "resources": 1}]}},
            "spec.roles[0].variants[0].template.spec.containers[0]",
            "{'name': 'e', 'env': […], 'resources': 1}",
            "resources must be an object",
            id="a container with a secret, which nobody shall read in a message",
        ),
        pytest.param(
            {"pod": {"containers": [{"name": "e", "env": [None]}]}},
            "spec.roles[0].variants[0].template.spec.containers[0]",
            "{'name': 'e', 'env': […]}",
            "env[0] must not be null",
            id="an item that is none",
        ),
        pytest.param(
            {"spec": {"minReplicas": 3}},
            "spec.minReplicas",
            "3",
            "is not a known field; check its spelling",
            id="a field of another kind of resource",
        ),
    ],
)
def test_a_refusal_names_field_value_and_rule(case: dict[str, Any], field: str, value: str, rule: str) -> None:
    assert refusal(ModelService, service(case)).problems == ((field, value, rule),)


def test_five_lines_are_a_service_with_every_default() -> None:
    assert len(FIVE_LINES.splitlines()) == 5
    found = ModelService.parse(yaml.safe_load(FIVE_LINES))
    spec = found.spec
    (role,) = spec.roles
    (variant,) = role.variants
    assert (found.served_name, spec.engine.type, spec.engine.answers_at) == ("llama", "Vllm", 8000)
    assert (role.name, role.bounds.min, role.bounds.max, variant.name) == ("unified", 1, 10, "default")
    assert (spec.replicas, spec.slo, spec.scaling.scale_to_zero) == (None, None, None)
    assert spec.scaling.recommenders == ("Slo", "Saturation", "Forecast")
    assert (spec.scaling.scale_down.stabilization.seconds, spec.scaling.scale_down.max_percent_per_minute) == (None, 20)
    assert (spec.metrics.prometheus, spec.metrics.stale_after.seconds) == ("default", 60)
    assert variant.template.spec.engine.name == "engine"


def test_a_template_has_a_largest_size() -> None:
    args = ["x" * 60_000] * 2
    ((field, _, rule),) = refusal(
        ModelService, service({"pod": {"containers": [{"name": "a", "args": args}]}})
    ).problems
    assert field == "spec.roles[0].variants[0].template.spec"
    assert rule.startswith("must have at most 65536 bytes as JSON; it has 120")


def test_the_status_counts_the_replicas_of_all_roles_for_people() -> None:
    roles = [{"name": "prefill", "desired": 2, "ready": 1}, {"name": "decode", "desired": 4, "ready": 4}]
    document = service({}) | {"status": {"roles": roles, "replicas": 2}}
    status = ModelService.parse(document).to_document()["status"]
    assert (status["readyReplicas"], status["desiredReplicas"], status["replicas"]) == (5, 6, 2)


def test_no_more_than_ten_decisions_are_kept() -> None:
    decision = {"at": "2026-01-01T10:15:00Z", "role": "unified", "from": 1, "to": 2, "reason": "SloHeadroomLow"}
    accepted = service({}) | {"status": {"decisions": [decision] * 10}}
    assert ModelService.parse(accepted).to_document()["status"]["decisions"][0]["from"] == 1
    refused = refusal(ModelService, service({}) | {"status": {"decisions": [decision] * 11}})
    assert refused.problems[0][0] == "status.decisions"


def test_the_limits_of_a_ratio() -> None:
    ratio = Ratio.model_validate({"prefill": 2, "decode": 5, "tolerance": "0.2"})
    assert ratio.least == pytest.approx(2.0)
    assert ratio.most == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("engine", "port"),
    [({"type": "Sglang"}, 30000), ({"type": "TrtLlm"}, 8000), ({"type": "Sglang", "port": 80}, 80)],
)
def test_where_an_engine_answers(engine: dict[str, Any], port: int) -> None:
    assert Engine.model_validate(engine).answers_at == port


def examples() -> list[Any]:
    """Whole resources of Stowage's own kinds on the page about serving."""
    text = (FOLDER.parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    return [pytest.param(one, id=one["metadata"]["name"]) for one in blocks if one.get("apiVersion") == API_VERSION]


@pytest.mark.parametrize("document", examples())
def test_examples_on_the_page_are_accepted(document: dict[str, Any]) -> None:
    verdict = judge(request(document), Known())
    assert verdict.allowed
    assert {words for words in verdict.warnings if "this version keeps" not in words} <= {
        (
            "spec.roles[0].variants[0].template: container engine has no readinessProbe: replicas count as ready "
            "before the model is loaded"
        ),
        "spec.roles[0].variants[0]: neither gpus nor the containers tell how many GPUs a replica has",
    }


def test_every_kind_of_resource_for_serving_has_an_example() -> None:
    assert {param.values[0]["kind"] for param in examples()} == {"ModelService", "PerformanceProfile"}
