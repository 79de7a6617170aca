"""What the webhook says to a PackingPlan: one that somebody writes by hand, and one that somebody approves."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.admission.verdict import Verdict
from stowage.api.packing_policy import PackingPolicy
from unit.admission_requests import changed, plan, policy, request, slot, step
from unit.builders import node, pod, snapshot

Document = dict[str, Any]
GONE = {"name": "gpu", "uid": "gpu-uid", "deletionTimestamp": "2027-01-01T00:00:00Z"}
MOVE = plan(step(1, slot="k001"), slot(1))


def known(*policies: Document, **fields: Any) -> Known:
    found = policies or (policy(),)
    return Known({one["metadata"]["name"]: PackingPolicy.parse(one) for one in found}, **fields)


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        pytest.param(plan(step(1, after=["s009"])), "spec", "after names s009", id="a step that is not there"),
        pytest.param(plan(step(1, slot="k009")), "spec", "slot k009", id="a slot that is not there"),
        pytest.param(
            plan(step(1, after=["s002"]), step(2, after=["s001"])), "spec", "in a circle", id="steps in a circle"
        ),
        pytest.param(plan(slot(1, after=["s009"])), "spec", "after names s009", id="a slot after no step"),
        pytest.param(plan(step(1), step(1)), "spec.steps", "must not occur twice", id="a step twice"),
        pytest.param(plan(slot(1), slot(1)), "spec.slots", "must not occur twice", id="a slot twice"),
        pytest.param(
            plan(step(1), step(2, pod=step(1)["pod"])), "spec.steps[1].pod.uid", "in step s001", id="evicted twice"
        ),
        pytest.param(
            plan(step(1, action="Place"), step(2, action="Bind", pod=step(1)["pod"])),
            "spec.steps[1].pod.uid",
            "gets a place in step s001",
            id="placed twice",
        ),
        pytest.param(
            plan(step(1, slot="k001"), step(2, slot="k001"), slot(1)),
            "spec.steps[1].slot",
            "s001",
            id="one slot for two",
        ),
        pytest.param(
            plan(step(1, action="Place", node="n1", slot="k001"), slot(1, node="n2")),
            "spec.steps[0].node",
            "on node n2",
            id="a place that is not its slot's",
        ),
        pytest.param(
            plan(step(1, slot="k001"), step(2, after=["s001"]), slot(1, after=["s002"])),
            "spec.slots",
            "s002",
            id="a circle through a slot",
        ),
        pytest.param(plan(policy="gone"), "spec.policy", "does not exist", id="a policy that is not there"),
        pytest.param(plan(policyUid="earlier"), "spec.policyUid", "has UID gpu-uid", id="an earlier policy"),
    ],
)
def test_a_plan_that_can_not_be_carried_out_is_refused(document: Document, field: str, words: str) -> None:
    verdict = judge(request(document), known())
    assert [words in one.rule or words in one.value for one in verdict.problems if one.field == field] == [True]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(MOVE, id="a move"),
        pytest.param(plan(), id="no step at all"),
        pytest.param(
            plan(step(1, slot="k001", swap=True), step(2, after=["s001"]), slot(1, after=["s002"])), id="a swap"
        ),
        pytest.param(
            plan(step(1), step(2, action="Place", pod=step(1)["pod"], slot="k001", node="n2"), slot(1)),
            id="a pod that leaves and one of its name that comes",
        ),
        pytest.param(
            plan(
                *(step(1, slot="k001"), slot(1)),
                step(2, pod=step(1)["pod"], node=slot(1)["node"], slot="k002", after=["s001"], replacementOf="s001"),
                slot(2, node="n3"),
            ),
            id="a pod whose replacement leaves its temporary place",
        ),
        pytest.param(plan(policyUid="gpu-uid"), id="the policy that is there"),
    ],
)
def test_a_plan_that_can_is_not(document: Document) -> None:
    assert judge(request(document), known()) == Verdict()


@pytest.mark.parametrize(
    ("document", "of_policy", "words"),
    [
        pytest.param(plan(slot(1)), policy(), "taken by no step", id="a slot for nobody"),
        pytest.param(plan(step(1, action="Place")), policy(), "Place without a slot", id="a place without a slot"),
        pytest.param(
            plan(step(1, slot="k001"), slot(1, node="n1")), policy(), "come back to node n1", id="a move to where it is"
        ),
        pytest.param(
            plan(metadata={"labels": {"stowage.dev/policy": "cpu"}}), policy(), "the label", id="another policy's label"
        ),
        pytest.param(plan(), policy(mode="Enforce"), "the plan is superseded", id="waiting where nobody is asked"),
        pytest.param(plan(), policy(paused=True), "stowage resume gpu", id="a policy that is paused"),
        pytest.param(plan(), policy(status={"activePlan": "gpu-0"}), "gpu-0 under way", id="a plan under way"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(document: Document, of_policy: Document, words: str) -> None:
    verdict = judge(request(document), known(of_policy))
    assert verdict.allowed
    (warning,) = verdict.warnings
    assert words in warning


def test_its_own_plan_is_no_other_one() -> None:
    of_policy = policy(status={"activePlan": "gpu-1"})
    assert judge(request(changed(plan(), approval="Approved"), plan()), known(of_policy)) == Verdict()


def test_a_plan_that_would_end_at_once_says_why() -> None:
    seen = snapshot(node("n1"), node("n2"))
    (warning,) = judge(request(MOVE), known(snapshot=seen)).warnings
    assert warning == "as the cluster is now, the plan ends at once as StaleSnapshot: step s001: pod team/pod-1 is gone"
    there = snapshot(node("n1"), pod("pod-1", "n1", uid="uid-1"))
    (warning,) = judge(request(MOVE), known(snapshot=there)).warnings
    assert "NodeGone: node n2 is gone" in warning
    fits = snapshot(node("n1"), node("n2"), pod("pod-1", "n1", uid="uid-1"))
    assert judge(request(MOVE), known(snapshot=fits)) == Verdict()


ENDED = plan(status={"phase": "Superseded"})


@pytest.mark.parametrize(
    ("before", "approval", "field"),
    [
        pytest.param(plan(), "Approved", None, id="approving a plan"),
        pytest.param(plan(status={"phase": "Proposed"}), "Aborted", None, id="aborting one that waits"),
        pytest.param(plan(approval="Approved", status={"phase": "Running"}), "Aborted", None, id="and one that runs"),
        pytest.param(ENDED, "Approved", "spec.approval", id="approving what has ended"),
        pytest.param(ENDED, "Aborted", "spec.approval", id="aborting what has ended"),
        pytest.param(plan(policy="gone"), "Approved", "spec.policy", id="approving for a policy that is gone"),
        pytest.param(plan(policy="gone"), "Aborted", None, id="aborting must always work"),
        pytest.param(plan(policyUid="earlier"), "Approved", "spec.policyUid", id="approving for an earlier policy"),
        pytest.param(plan(step(1, after=["s009"])), "Aborted", None, id="aborting what cannot be read"),
    ],
)
def test_what_people_say_to_a_plan(before: Document, approval: str, field: str | None) -> None:
    verdict = judge(request(changed(before, approval=approval), before), known())
    assert [one.field for one in verdict.problems] == ([field] if field else [])


def test_a_policy_that_is_being_deleted_is_told() -> None:
    going = policy() | {"metadata": GONE}
    (problem,) = judge(request(plan()), known(going)).problems
    assert "is being deleted" in problem.rule


def test_a_policy_that_could_not_be_read_refuses_nothing() -> None:
    verdict = judge(request(plan()), Known(None, "GET packingpolicies/gpu: no answer"))
    assert verdict == Verdict(warnings=("spec.policy = gpu: not checked: GET packingpolicies/gpu: no answer",))
