"""The definitions of ModelServices and PerformanceProfiles on the real API server: what it accepts, refuses, scales."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.api.model_service import ModelService
from stowage.api.performance_profile import PerformanceProfile
from stowage.transport import Api, ApiError
from stowage.transport.paths import MODEL_SERVICES, PERFORMANCE_PROFILES, in_namespace, named

FOLDER = Path(__file__).parent
CASES = yaml.safe_load((FOLDER / "model_service_cases.yaml").read_text(encoding="utf-8"))
PROFILES = yaml.safe_load((FOLDER / "performance_profile_cases.yaml").read_text(encoding="utf-8"))
DRY = {"dryRun": "All", "fieldValidation": "Strict"}
SERVICES = in_namespace(MODEL_SERVICES, "default")


def service(case: Mapping[str, Any], name: str = "crd-cases") -> dict[str, Any]:
    spec = copy.deepcopy(CASES["service"]) | copy.deepcopy(dict(case.get("spec", {})))
    if spec["roles"]:
        spec["roles"][0] |= case.get("role", {})
    if spec["roles"] and spec["roles"][0]["variants"]:
        variant = spec["roles"][0]["variants"][0]
        variant |= case.get("variant", {})
        if "pod" in case:
            variant["template"]["spec"] |= case["pod"]
    metadata = {"name": case.get("name", name), "namespace": "default"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "ModelService", "metadata": metadata, "spec": spec}


def profile(case: Mapping[str, Any]) -> dict[str, Any]:
    spec = {**PROFILES["profile"], **case["spec"]}
    metadata = {"name": "crd-cases"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PerformanceProfile", "metadata": metadata, "spec": spec}


def cases(group: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in group]


async def judged(
    api: Api,
    collection: str,
    model: type[ModelService | PerformanceProfile],
    document: dict[str, Any],
    case: dict[str, Any],
) -> None:
    """Accepted with the defaults of the models, or refused by the name of the field."""
    if "field" not in case:
        accepted = await api.create(collection, document, DRY)
        assert accepted["spec"] == model.parse(document).to_document()["spec"]
        return
    with pytest.raises(ApiError) as refused:
        await api.create(collection, document, DRY)
    refusal = refused.value
    assert (refusal.status, case["field"] in refusal.message) in {(422, True), (400, True)}, refusal.message


@pytest.fixture
async def stored(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A service of this test alone, with what the test gives by parameter in its spec."""
    path = named(SERVICES, "stored")
    await api.create(SERVICES, service({"spec": getattr(request, "param", {})}, "stored"))
    yield path
    await api.delete(path)


@pytest.mark.parametrize("case", cases(CASES["services"]))
async def test_service(api: Api, case: dict[str, Any]) -> None:
    await judged(api, SERVICES, ModelService, service(case), case)


@pytest.mark.parametrize("case", cases(PROFILES["profiles"]))
async def test_profile(api: Api, case: dict[str, Any]) -> None:
    await judged(api, PERFORMANCE_PROFILES, PerformanceProfile, profile(case), case)


@pytest.mark.parametrize("stored", [{"replicas": 2}], indirect=True)
async def test_scale_sets_the_replicas_of_the_first_role_by_hand(api: Api, stored: str) -> None:
    await api.merge_patch(f"{stored}/scale", {"spec": {"replicas": 4}})
    selector = "stowage.dev/service=stored"
    await api.merge_patch(f"{stored}/status", {"status": {"replicas": 3, "selector": selector}})
    scale = await api.get(f"{stored}/scale")
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": selector}
    assert ModelService.parse_stored(await api.get(stored)).spec.replicas == 4
    with pytest.raises(ApiError, match="replicas must not be more than"):
        await api.merge_patch(f"{stored}/scale", {"spec": {"replicas": 11}})


async def test_a_service_that_follows_its_load_can_be_scaled_by_hand(api: Api, stored: str) -> None:
    await api.merge_patch(f"{stored}/scale", {"spec": {"replicas": 2}})
    assert (await api.get(stored))["spec"]["replicas"] == 2


async def test_a_service_written_back_as_it_was_read_is_unchanged(api: Api, stored: str) -> None:
    before = await api.get(stored)
    await api.replace(stored, ModelService.parse(before).to_document())
    assert (await api.get(stored))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_the_status_is_kept_as_it_was_written(api: Api, stored: str) -> None:
    decision = {
        "at": "2026-01-01T10:15:00Z",
        "role": "unified",
        "from": 2,
        "to": 3,
        "reason": "SloHeadroomLow",
        "recommender": "Slo",
        "inputs": {"arrivalsPerSecond": "12.1"},
        "recommendations": [{"recommender": "Slo", "replicas": 3}],
        "validUntil": "2026-01-01T10:15:30Z",
    }
    status = {
        "reason": "SloHeadroomLow",
        "replicas": 2,
        "roles": [
            {"name": "unified", "desired": 3, "ready": 2, "starting": 1, "variants": [{"name": "h100", "ready": 2}]}
        ],
        "decisions": [decision] * 10,
        "coldStart": {"p50": "94s", "p90": "130s", "phases": [{"phase": "Weights", "p50": "40s", "p90": "60s"}]},
        "slo": {"attainment": "0.994", "requests": 1200},
        "spend": {"gpus": 3, "costPerHour": "10.5"},
    }
    whole = ModelService.parse(await api.get(stored) | {"status": status}).to_document()
    await api.replace(f"{stored}/status", whole)
    read = await api.get(stored)
    assert (read["status"]["readyReplicas"], read["status"]["desiredReplicas"]) == (2, 3)
    assert ModelService.parse_stored(read).to_document()["status"] == read["status"]


async def test_the_table_of_services_says_how_they_are(api: Api, stored: str) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    definition = await api.get(named(definitions, "modelservices.stowage.dev"))
    (version,) = definition["spec"]["versions"]
    shown = [one["name"] for one in version["additionalPrinterColumns"] if not one.get("priority")]
    assert shown == ["Ready", "Desired", "SLO", "Reason", "Age"]
    assert (await api.get(stored))["kind"] == "ModelService"


async def test_services_live_in_namespaces_and_profiles_do_not(api: Api) -> None:
    served = {one["name"]: one for one in (await api.get("/apis/stowage.dev/v1alpha1"))["resources"]}
    service, profile = served["modelservices"], served["performanceprofiles"]
    assert (service["shortNames"], service["categories"], service["namespaced"]) == (["msvc"], ["stowage"], True)
    assert (profile["shortNames"], profile["categories"], profile["namespaced"]) == (["pprof"], ["stowage"], False)
    assert {"modelservices/status", "modelservices/scale", "performanceprofiles/status"} <= set(served)
    assert "performanceprofiles/scale" not in served
