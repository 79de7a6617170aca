"""Whether a policy plans for the pods of a job: only then may they wait behind a gate, and only then does it stay."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.packing_policy import PackingPolicy
from stowage.decide.training.coverage import is_covered
from unit.test_training_job_status import Life

MATCHES = {"schedulerNames": ["default-scheduler"]}


@pytest.mark.parametrize(
    ("spec", "paused", "covered"),
    [
        pytest.param(MATCHES, False, True, id="its scheduler, and no selector"),
        pytest.param({"schedulerNames": ["other"]}, False, False, id="another scheduler's pods"),
        pytest.param(
            {**MATCHES, "podSelector": {"matchLabels": {"stowage.dev/job": "tiny"}}}, False, True, id="its label"
        ),
        pytest.param({**MATCHES, "podSelector": {"matchLabels": {"app": "web"}}}, False, False, id="other labels"),
        pytest.param({**MATCHES, "namespaceSelector": {"matchLabels": {"team": "a"}}}, False, True, id="its namespace"),
        pytest.param({**MATCHES, "namespaceSelector": {"matchLabels": {"team": "b"}}}, False, False, id="another one"),
        pytest.param({**MATCHES, "paused": True}, False, False, id="a paused policy opens no new gate"),
        pytest.param({**MATCHES, "paused": True}, True, True, id="and pods that wait for it go on waiting"),
    ],
)
def test_a_policy_covers_a_job(spec: dict[str, Any], paused: bool, covered: bool) -> None:
    policy = PackingPolicy.parse({"metadata": {"name": "p"}, "spec": spec})
    assert is_covered(Life().job, [policy], {"team": "a"}, paused=paused) is covered
