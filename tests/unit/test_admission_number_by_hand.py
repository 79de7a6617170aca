"""A number by hand that the budget of a ModelService does not pay for: it is stored, with a warning."""

from __future__ import annotations

from typing import Any

import pytest

from unit.test_admission_model_services import role, service, variant, verdict

PRICED = [variant("h100", costPerHour="3.5"), variant("l40s", costPerHour="1", max=2)]
CASES = [
    pytest.param({"costPerHour": "9"}, 4, True, id="two cheap ones, two dear ones"),
    pytest.param({"costPerHour": "9"}, 3, False, id="all of it"),
    pytest.param({"costPerHour": "9"}, None, False, id="no number"),
    pytest.param({}, 4, False, id="no budget"),
]


@pytest.mark.parametrize(("budget", "replicas", "warns"), CASES)
def test_a_number_by_hand_beyond_the_budget(budget: dict[str, Any], replicas: int | None, warns: bool) -> None:
    spec: dict[str, Any] = {"scaling": {"budget": budget}} if budget else {}
    other = role("other", variant(costPerHour="1"))
    by_hand = {} if replicas is None else {"replicas": replicas}
    found = verdict(service(role("unified", *PRICED), other, **spec, **by_hand))
    assert found.problems == ()
    told = [one for one in found.warnings if "fewer replicas are asked for" in one]
    assert bool(told) is warns
    if warns:
        assert told[0].startswith("spec.replicas = 4 needs 10 with the cheapest variants")
