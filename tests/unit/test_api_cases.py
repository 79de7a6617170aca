"""The models refuse what the API server refuses, with an error that names the same field: files have no admission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.resource import InvalidObjectError, Resource

CASES = yaml.safe_load((Path(__file__).parents[1] / "integration" / "crd_cases.yaml").read_text(encoding="utf-8"))


def resources() -> list[Any]:
    policies = [(PackingPolicy, case, case["spec"]) for case in CASES["policies"]]
    plans = [(PackingPlan, case, CASES["plan"] | case["spec"]) for case in CASES["plans"]]
    return [
        pytest.param(
            kind, {"metadata": {"name": case.get("name", "default")}, "spec": spec}, case.get("field"), id=case["id"]
        )
        for kind, case, spec in (*policies, *plans)
    ]


@pytest.mark.parametrize(("kind", "document", "field"), resources())
def test_models_agree_with_admission(kind: type[Resource], document: dict[str, Any], field: str | None) -> None:
    if field is None:
        assert kind.parse(document).name == document["metadata"]["name"]
        return
    with pytest.raises(InvalidObjectError) as refusal:
        kind.parse(document)
    message = str(refusal.value)
    assert field in message
    assert kind.kind_name() in message
    assert "\n" not in message
