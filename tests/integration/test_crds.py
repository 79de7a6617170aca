"""The resource definitions on the real API server: it accepts them, and they accept and refuse the right objects."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.waiting import eventually
from stowage.api import crd
from stowage.api.names import EXTENDER_MANAGER
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy, PackingPolicyStatus
from stowage.transport import Api, ApiError, NotFound
from stowage.transport.paths import PACKING_PLANS, PACKING_POLICIES, named

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CASES = yaml.safe_load(Path(__file__).with_name("crd_cases.yaml").read_text(encoding="utf-8"))
QUEUE = {"mode": "UserFairQueue"}
DRY = {"dryRun": "All", "fieldValidation": "Strict"}


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES[group]]


def policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}, "spec": spec}


def plan(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    whole = CASES["plan"] | spec
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPlan", "metadata": {"name": name}, "spec": whole}


def filled_in(document: dict[str, Any]) -> dict[str, Any]:
    """The spec of a policy with the defaults that the API server knows: those of the first version's fields."""
    spec: dict[str, Any] = PackingPolicy.parse(document).to_document()["spec"]
    given = document.get("spec", {}).get("disruption", {})
    for added_later in {"maxUnavailablePerOwner", "canary", "stopRule"} - set(given):
        del spec["disruption"][added_later]
    if "consolidation" not in document.get("spec", {}):
        del spec["consolidation"]
    return spec


@pytest.fixture
async def stored_plan(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A plan of this test alone; where its approval is to be another one, the test has said so by parameter."""
    name = "crd-cases"
    await api.create(PACKING_PLANS, plan(name, {"approval": getattr(request, "param", "Pending")}))
    yield name
    await api.delete(named(PACKING_PLANS, name))


async def refusal(api: Api, path: str, document: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await api.create(path, document, DRY)
    return refused.value


@pytest.mark.parametrize("definition", crd.documents(), ids=lambda one: str(one["spec"]["names"]["kind"]))
async def test_definition_is_established_and_structural(api: Api, definition: dict[str, Any]) -> None:
    applied = await api.apply(named(DEFINITIONS, definition["metadata"]["name"]), definition, field_manager="tests")
    conditions = {one["type"]: one["status"] for one in applied["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert applied["spec"]["versions"][0]["schema"] == definition["spec"]["versions"][0]["schema"]


@pytest.mark.parametrize("case", cases("policies"))
async def test_policy(api: Api, case: dict[str, Any]) -> None:
    document = policy(case.get("name", "crd-cases"), case["spec"])
    if "field" in case:
        refused = await refusal(api, PACKING_POLICIES, document)
        assert (refused.status, case["field"] in refused.message) in {(422, True), (400, True)}, refused.message
    else:
        accepted = await api.create(PACKING_POLICIES, document, DRY)
        assert accepted["spec"] == filled_in(document)


@pytest.mark.parametrize("case", cases("plans"))
async def test_plan(api: Api, case: dict[str, Any]) -> None:
    document = plan(case.get("name", "crd-cases"), case["spec"])
    if "field" in case:
        refused = await refusal(api, PACKING_PLANS, document)
        assert (refused.status, case["field"] in refused.message) == (422, True), refused.message
    else:
        accepted = await api.create(PACKING_PLANS, document, DRY)
        assert accepted["spec"] == PackingPlan.parse(document).to_document()["spec"]


@pytest.mark.parametrize(
    ("stored_plan", "case"),
    [pytest.param(case["from"], case, id=case["id"]) for case in CASES["changes"]],
    indirect=["stored_plan"],
)
async def test_change_of_a_plan(api: Api, stored_plan: str, case: dict[str, Any]) -> None:
    path = named(PACKING_PLANS, stored_plan)
    if "field" in case:
        with pytest.raises(ApiError) as refused:
            await api.merge_patch(path, {"spec": case["patch"]}, DRY)
        assert (refused.value.status, case["field"] in refused.value.message) == (422, True), refused.value.message
    else:
        changed = await api.merge_patch(path, {"spec": case["patch"]}, DRY)
        assert changed["spec"] == CASES["plan"] | {"steering": "Extender"} | with_defaults() | case["patch"]


def with_defaults() -> dict[str, Any]:
    spec = PackingPlan.parse(plan("any", {})).to_document()["spec"]
    return {"slots": spec["slots"], "steps": spec["steps"]}


async def test_a_policy_without_a_spec_gets_every_default_that_the_first_version_knows(api: Api) -> None:
    document = policy("crd-cases", {})
    del document["spec"]
    accepted = await api.create(PACKING_POLICIES, document, DRY)
    assert accepted["spec"] == filled_in(document)
    assert PackingPolicy.parse_stored(accepted).spec == PackingPolicy().spec
    assert "status" not in accepted


async def test_the_largest_plan_is_accepted_within_the_cost_limits(api: Api) -> None:
    """Validation rules cost time by the size of the object: here every list is full and every name is long."""
    steps, node = 256, ".".join(["n" * 60] * 4)
    pod = {"namespace": "a" * 63, "name": node, "uid": "6f1f0d8e-7a56-4c15-a7a0-1f3d9b1c2e4d"}
    spec: dict[str, Any] = {
        "approval": "Approved",
        "slots": [
            {
                "id": f"k{i:03}",
                "class": {"controllerUid": pod["uid"], "requests": "0" * 64, "podName": node},
                "node": node,
                "after": [f"s{other:03}" for other in range(i)],
            }
            for i in range(steps)
        ],
        "steps": [
            {
                "id": f"s{i:03}",
                "action": "Evict",
                "pod": pod,
                "node": node,
                "slot": f"k{i:03}",
                "after": [f"s{before:03}" for before in range(i)],
            }
            for i in range(steps)
        ],
    }
    accepted = await api.create(PACKING_PLANS, plan("crd-cases", spec), DRY)
    assert len(accepted["spec"]["steps"]) == steps
    too_many = {**spec, "steps": [*spec["steps"], {**spec["steps"][0], "id": "s256"}]}
    assert "spec.steps" in (await refusal(api, PACKING_PLANS, plan("crd-cases", too_many))).message


async def test_status_is_written_apart_from_the_spec(api: Api, stored_plan: str) -> None:
    path = named(PACKING_PLANS, stored_plan)
    before = await api.get(path)
    await api.merge_patch(path, {"status": {"phase": "Running"}})
    assert "status" not in await api.get(path)
    await api.merge_patch(f"{path}/status", {"status": {"phase": "Running"}, "spec": {"approval": "Approved"}})
    after = PackingPlan.parse(await api.get(path))
    assert after.status.phase == "Running"
    assert after.spec.approval == "Pending"
    assert after.metadata.generation == before["metadata"]["generation"]


async def test_extenders_and_operator_write_one_status_without_conflict(api: Api, stored_plan: str) -> None:
    path = f"{named(PACKING_PLANS, stored_plan)}/status"
    entry = {"holder": "host-1", "observedPlan": "u", "at": "2026-01-01T10:15:00Z"}
    claim = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPlan",
        "metadata": {"name": stored_plan},
        "status": {"extenders": [entry]},
    }
    await api.apply(path, claim, field_manager=EXTENDER_MANAGER)
    await api.merge_patch(path, {"status": {"phase": "Running", "epoch": 12}})
    claim["status"] = {"extenders": [{**entry, "at": "2026-01-01T10:15:01.250000Z"}]}
    await api.apply(path, claim, field_manager=EXTENDER_MANAGER)
    read = PackingPlan.parse(await api.get(path))
    assert (read.status.phase, read.status.epoch) == ("Running", 12)
    assert [(one.holder, one.at.microsecond) for one in read.status.extenders] == [("host-1", 250_000)]


async def test_a_plan_written_back_as_it_was_read_is_unchanged(api: Api, stored_plan: str) -> None:
    path = named(PACKING_PLANS, stored_plan)
    await api.merge_patch(
        path, {"metadata": {"finalizers": ["example.org/kept"], "labels": {"stowage.dev/policy": "d"}}}
    )
    before = await api.get(path)
    await api.replace(path, PackingPlan.parse(before).to_document())
    after = await api.get(path)
    await api.merge_patch(path, {"metadata": {"finalizers": None}})
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_short_names_and_category(api: Api, stored_plan: str) -> None:
    resources = await api.get("/apis/stowage.dev/v1alpha1")
    served = {one["name"]: one for one in resources["resources"]}
    assert served["packingplans"]["shortNames"] == ["pplan"]
    assert served["packingpolicies"]["shortNames"] == ["pp"]
    assert {one["name"] for one in resources["resources"] if "stowage" in one.get("categories", ())} == {
        "modelservices",
        "packingplans",
        "packingpolicies",
        "performanceprofiles",
        "trainingjobs",
    }
    with pytest.raises(NotFound):
        await api.get(f"{named(PACKING_PLANS, stored_plan)}/scale")


async def test_a_policy_with_the_queue_of_an_earlier_version_keeps_its_status_and_can_be_paused(api: Api) -> None:
    """The rule against it came later: what is stored is let through as long as `fairness` does not change."""
    definition = next(one for one in crd.documents() if one["spec"]["names"]["kind"] == "PackingPolicy")
    at_first = copy.deepcopy(definition)
    spec = at_first["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rules = spec["properties"]["fairness"]["x-kubernetes-validations"]
    rules[:] = [rule for rule in rules if "UserFairQueue" not in rule["rule"]]
    where, old = named(DEFINITIONS, definition["metadata"]["name"]), policy("queue", {"fairness": QUEUE})
    path = named(PACKING_POLICIES, "queue")
    await api.apply(where, at_first, field_manager="tests")
    try:
        await eventually(lambda: is_accepted(api, old), what="the rule is gone")
        await api.create(PACKING_POLICIES, old)
        await api.apply(where, definition, field_manager="tests")
        await eventually(lambda: is_refused(api, policy("another", {"fairness": QUEUE})), what="the rule is back")
        stored = PackingPolicy.parse_stored(await api.get(path))
        status = stored.model_copy(update={"status": PackingPolicyStatus(nodes=3)}).to_document()
        await api.replace(f"{path}/status", status)
        changed = await api.merge_patch(path, {"spec": {"paused": True}})
        assert (changed["status"]["nodes"], changed["spec"]["fairness"]["mode"]) == (3, "UserFairQueue")
    finally:
        await api.apply(where, definition, field_manager="tests")
        with contextlib.suppress(NotFound):
            await api.delete(path)


async def is_accepted(api: Api, document: dict[str, Any]) -> bool:
    try:
        await api.create(PACKING_POLICIES, document, DRY)
    except ApiError:
        return False
    return True


async def is_refused(api: Api, document: dict[str, Any]) -> bool:
    return not await is_accepted(api, document)
