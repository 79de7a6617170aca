"""AdmissionReviews, read and answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stowage.admission import review
from stowage.admission.configuration import configuration
from stowage.admission.review import Operation, UnreadableReviewError
from stowage.admission.verdict import Problem, Verdict
from unit.admission_requests import plan, policy, request

KIND = {"group": "stowage.dev", "version": "v1alpha1", "kind": "PackingPolicy"}
WHOLE: dict[str, Any] = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u", "kind": KIND, "operation": "UPDATE", "name": "gpu", "object": policy(), "dryRun": True},
}


def test_a_question_is_read_with_all_that_counts() -> None:
    asked = review.decode(json.dumps(WHOLE).encode())
    assert (asked.uid, asked.operation, asked.name, asked.dry_run) == ("u", Operation.UPDATE, "gpu", True)
    assert (asked.object, asked.old_object, asked.sub_resource) == (policy(), None, "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "Input data was truncated", id="nothing"),
        pytest.param(b"[1]", "Expected `object`", id="a list"),
        pytest.param(b"\xff{", "malformed", id="no text"),
        pytest.param(
            b'{"request": {"object": {"a": ' + b"[" * 100_000, "no AdmissionReview", id="deeper than anything needs"
        ),
        pytest.param(json.dumps(WHOLE | {"request": {"uid": "u"}}).encode(), "`kind`", id="a request without a kind"),
        pytest.param(
            json.dumps(WHOLE | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
            "set admissionReviewVersions: [v1]",
            id="an older version",
        ),
        pytest.param(json.dumps(WHOLE | {"kind": "Pod"}).encode(), "a Pod of", id="another kind"),
    ],
)
def test_what_is_no_question_is_told(body: bytes, words: str) -> None:
    with pytest.raises(UnreadableReviewError, match=words.replace("[", r"\[").replace("]", r"\]")):
        review.decode(body)


def test_a_yes_is_short() -> None:
    document = review.answer(request(policy()), Verdict())
    assert document["response"] == {"uid": "question-1", "allowed": True}
    assert (document["apiVersion"], document["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")


def test_a_no_names_object_field_value_and_cure() -> None:
    problem = Problem("spec.policy", "gone", "does not exist; name one that exists")
    response = review.answer(request(plan()), Verdict((problem,)))["response"]
    assert not response["allowed"]
    assert (
        response["status"]["message"] == "PackingPlan gpu-1: spec.policy = gone: does not exist; name one that exists"
    )
    assert (response["status"]["code"], response["status"]["reason"]) == (422, "Invalid")
    (cause,) = response["status"]["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("spec.policy", "gone: does not exist; name one that exists")


def test_warnings_can_be_sent_as_headers() -> None:
    said = review.answer(request(policy()), Verdict(warnings=("two\nlines\x00", "long " * 100)))["response"]["warnings"]
    assert said[0] == "two lines "
    assert len(said[1]) == review.MAX_WARNING
    assert said[1].endswith("…")


def test_warnings_stop_where_the_api_server_would_drop_them_all() -> None:
    said = review.answer(request(policy()), Verdict(warnings=("x" * 256,) * 100))["response"]["warnings"]
    assert sum(map(len, said)) == review.MAX_WARNINGS


def test_the_webhook_is_asked_about_our_kinds_only_and_never_about_deletions() -> None:
    (webhook,) = configuration("stowage", {"url": "https://127.0.0.1:9443/validate"}, operator_user="u")["webhooks"]
    (rule,) = webhook["rules"]
    assert rule["apiGroups"] == ["stowage.dev"]
    ours = ["packingpolicies", "packingplans", "trainingjobs", "modelservices", "performanceprofiles"]
    assert rule["resources"] == ours
    assert set(rule["operations"]) == {"CREATE", "UPDATE"}
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["sideEffects"] == "None"
    assert webhook["timeoutSeconds"] <= 5
    assert [one["name"] for one in webhook["matchConditions"]] == ["not-being-deleted", "not-by-stowage"]
