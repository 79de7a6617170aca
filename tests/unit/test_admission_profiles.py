"""What the webhook says to PerformanceProfiles."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.admission.verdict import Verdict
from unit.admission_requests import request

Document = dict[str, Any]


def profile(**spec: Any) -> Document:
    fitted = {"prefill": {"base": "18", "perToken": "0.1"}, "decode": {"base": "20", "perRequest": "0.04"}}
    whole = {"model": "m", "accelerator": "h100", "kvCacheTokens": 66_000, "fitted": fitted, **spec}
    metadata = {"name": "llama-h100", "uid": "profile-uid"}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PerformanceProfile", "metadata": metadata, "spec": whole}


def verdict(document: Document) -> Verdict:
    return judge(request(document, None), Known())


def test_a_profile_is_let_through_and_told_that_nothing_is_done_with_it() -> None:
    assert verdict(profile()).warnings == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            {
                "fitted": None,
                "measured": {
                    "prefill": [{"tokens": 512, "milliseconds": "20"}, {"tokens": 1024, "milliseconds": "5"}],
                    "decode": [{"running": 1, "milliseconds": "10"}],
                },
            },
            (
                "spec.measured.prefill[0].milliseconds = 20: the rows around it give 12.5, which is taken",
                "spec.measured.prefill[1].milliseconds = 5: the rows around it give 12.5, which is taken",
            ),
            id="more work in less time",
        ),
        pytest.param(
            {
                "fitted": None,
                "measured": {
                    "prefill": [{"tokens": 512, "milliseconds": "20"}],
                    "decode": [{"running": 1, "milliseconds": ms} for ms in ("10", "11", "50")],
                },
            },
            ("spec.measured.decode[2].milliseconds = 50: the rows around it give 11, which is taken",),
            id="one of three measurements of the same is far off",
        ),
        pytest.param(
            {"kvCacheTokens": 1000},
            ("spec.maxBatchedTokens = 2048: the KV cache holds 1000 tokens",),
            id="a cache that is smaller than a step",
        ),
        pytest.param(
            {
                "fitted": {
                    "prefill": {"base": "18000", "perToken": "100"},
                    "decode": {"base": "15000", "perRequest": "40"},
                }
            },
            (
                "spec: a prompt of 256 tokens takes 43.6 s by these numbers; they must be in milliseconds",
                "spec: a token of one request alone takes 15 s by these numbers; they must be in milliseconds",
            ),
            id="microseconds",
        ),
    ],
)
def test_what_is_odd_about_a_profile_is_told(spec: Document, words: tuple[str, ...]) -> None:
    assert verdict(profile(**spec)).warnings == words


def test_a_profile_that_no_replica_could_serve_by_is_refused() -> None:
    """Slower than any load can be modelled for: it would count as bearing everything."""
    decode = {"base": "3600000", "perRequest": "1"}
    found = verdict(profile(fitted={"prefill": {"base": "18", "perToken": "0.1"}, "decode": decode}))
    (problem,) = found.problems
    assert str(problem) == "spec = its numbers together: a step for one token takes more than 20 s: mind the unit"
    assert found.warnings == ()
