"""The definition of TrainingJobs on the real API server: it accepts and refuses the right objects, and scales."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.act.listing import keys_in
from stowage.api.training_job import TrainingJob
from stowage.transport import Api, ApiError
from stowage.transport.paths import NAMESPACES, TRAINING_JOBS, in_namespace, named

CASES = yaml.safe_load(Path(__file__).with_name("training_job_cases.yaml").read_text(encoding="utf-8"))
DRY = {"dryRun": "All", "fieldValidation": "Strict"}
JOBS = in_namespace(TRAINING_JOBS, "default")


def job(case: Mapping[str, Any], name: str = "crd-cases") -> dict[str, Any]:
    spec = copy.deepcopy(CASES["job"]) | copy.deepcopy(dict(case.get("spec", {})))
    template = spec["template"]
    if template is not None and "spec" not in template:
        template["spec"] = copy.deepcopy(CASES["job"]["template"]["spec"])
    if "container" in case:
        template["spec"]["containers"][0] |= case["container"]
    if "pod" in case:
        template["spec"] |= case["pod"]
    metadata = {"name": case.get("name", name), "namespace": "default"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata, "spec": spec}


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES[group]]


@pytest.fixture
async def stored(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A job of this test alone, with what the test gives by parameter in its spec."""
    path = named(JOBS, "stored")
    await api.create(JOBS, job({"spec": getattr(request, "param", {})}, "stored"))
    yield path
    await api.delete(path)


@pytest.mark.parametrize("case", cases("jobs"))
async def test_job(api: Api, case: dict[str, Any]) -> None:
    document = job(case)
    if "field" in case:
        with pytest.raises(ApiError) as refused:
            await api.create(JOBS, document, DRY)
        refusal = refused.value
        assert (refusal.status, case["field"] in refusal.message) in {(422, True), (400, True)}, refusal.message
    else:
        accepted = await api.create(JOBS, document, DRY)
        assert accepted["spec"] == TrainingJob.parse(document).to_document()["spec"]


@pytest.mark.parametrize(
    ("stored", "case"),
    [pytest.param(case["from"], case, id=case["id"]) for case in CASES["changes"]],
    indirect=["stored"],
)
async def test_change_of_a_job(api: Api, stored: str, case: dict[str, Any]) -> None:
    if "field" not in case:
        await api.merge_patch(stored, {"spec": case["patch"]}, DRY)
        return
    with pytest.raises(ApiError) as refused:
        await api.merge_patch(stored, {"spec": case["patch"]}, DRY)
    assert (refused.value.status, case["field"] in refused.value.message) == (422, True), refused.value.message


@pytest.mark.parametrize("stored", [{"nodes": {"min": 1, "max": 4, "allowed": [1, 2, 4]}}], indirect=True)
async def test_scale_sets_the_target_and_tells_what_is_ready(api: Api, stored: str) -> None:
    await api.merge_patch(f"{stored}/scale", {"spec": {"replicas": 4}})
    await api.merge_patch(
        f"{stored}/status", {"status": {"nodes": {"desired": 4, "ready": 3}, "selector": "stowage.dev/job=stored"}}
    )
    scale = await api.get(f"{stored}/scale")
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": "stowage.dev/job=stored"}
    assert TrainingJob.parse_stored(await api.get(stored)).spec.nodes.target == 4
    with pytest.raises(ApiError, match=r"nodes\.target"):
        await api.merge_patch(f"{stored}/scale", {"spec": {"replicas": 3}})


async def test_a_job_written_back_as_it_was_read_is_unchanged(api: Api, stored: str) -> None:
    before = await api.get(stored)
    await api.replace(stored, TrainingJob.parse(before).to_document())
    assert (await api.get(stored))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_the_table_of_jobs(api: Api, stored: str) -> None:
    status = {
        "phase": "Running",
        "nodes": {"desired": 4, "ready": 3},
        "progress": {"step": 1200},
        "goodput": {"ratio": "0.971", "productiveSeconds": 97},
        "restarts": [{"scope": "Process", "count": 2}, {"scope": "Node", "count": 1}],
    }
    whole = TrainingJob.parse(await api.get(stored) | {"status": status}).to_document()
    await api.replace(f"{stored}/status", whole)
    read = await api.get(stored)
    assert read["status"]["restartCount"] == 3
    assert read["status"]["nodes"]["summary"] == "3/4"
    assert TrainingJob.parse_stored(read).to_document()["status"] == read["status"]


@pytest.mark.usefixtures("stored")
async def test_names_of_all_jobs_are_read_without_their_specs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "get", None)
    assert await keys_in(api, TRAINING_JOBS) == ("default/stored",)


async def test_jobs_live_in_namespaces_and_go_by_tj(api: Api) -> None:
    resources = (await api.get("/apis/stowage.dev/v1alpha1"))["resources"]
    served = {one["name"]: one for one in resources}
    kind = served["trainingjobs"]
    assert (kind["shortNames"], kind["categories"], kind["namespaced"]) == (["tj"], ["stowage"], True)
    assert {"trainingjobs/status", "trainingjobs/scale"} <= set(served)
    assert (await api.get(named(NAMESPACES, "default")))["kind"] == "Namespace"
