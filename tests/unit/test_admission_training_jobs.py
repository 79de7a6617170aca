"""What the webhook says to a TrainingJob."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.api.packing_policy import PackingPolicy
from stowage.decide.training.promql_rules import PromqlRule
from stowage_scheduler.cluster import PriorityClass, Snapshot
from unit.admission_requests import changed, policy, request
from unit.builders import NOW, node

CLUSTER = Snapshot(
    NOW,
    nodes=(node("n1", labels={"rack": "a"}), node("n2", labels={"rack": "b"})),
    priority_classes=(PriorityClass("high", 1000),),
    namespace_labels={"team-a": {"team": "a"}},
)
LIMITS = {"limits": {"nvidia.com/gpu": 8}}
TRAINER = {"name": "trainer", "image": "a", "command": ["python"], "resources": LIMITS}
SAFE = {"volume": {"persistentVolumeClaim": {"claimName": "ckpt"}}}


def known(*policies: dict[str, Any]) -> Known:
    covering = policies or (policy(schedulerNames=["stowage", "default-scheduler"]),)
    return Known({one["metadata"]["name"]: PackingPolicy.parse(one) for one in covering}, snapshot=CLUSTER)


def job(*, pod: dict[str, Any] | None = None, trainer: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A job that nothing is said about, but for what is given."""
    template = {"spec": {"containers": [TRAINER | (trainer or {})], **(pod or {})}}
    metadata = {"name": "llama", "namespace": "team-a", "uid": "job-uid"}
    whole = {"template": template, "checkpoint": SAFE, **spec}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata, "spec": whole}


def rules(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"when": one, "do": "Fail"} for one in conditions]}


def log(name: str, pattern: str) -> dict[str, Any]:
    return {"log": {"name": name, "pattern": pattern}}


def test_a_sensible_job_is_let_through_in_silence() -> None:
    verdict = judge(request(job(nodes={"min": 2}, batch={"global": 16, "micro": 4})), known())
    assert (verdict.allowed, verdict.warnings) == (True, ())


@pytest.mark.parametrize(
    ("document", "field", "rule"),
    [
        pytest.param(
            job(recovery=rules(log("a", "x"), log("a", "y"))),
            "spec.recovery.rules[1].when.log.name",
            "an earlier rule of that name has another pattern; give this one another name",
            id="two patterns of one name",
        ),
        pytest.param(
            job(recovery=rules(log("a", "(x*)*"))),
            "spec.recovery.rules[0].when.log.pattern",
            "may take too long on some lines",
            id="a pattern that backtracks for ever",
        ),
        pytest.param(
            job(
                pod={"volumes": [{"name": "v"}]},
                trainer={"volumeMounts": [{"name": "v", "mountPath": "/checkpoints/"}]},
            ),
            "spec.checkpoint.directory",
            "the trainer mounts v there; leave that mount out, or name another directory",
            id="two volumes at one place",
        ),
        pytest.param(
            job(trainer={"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
            "spec.template.spec.containers[0].volumeMounts[0].name",
            "is not one of spec.template.spec.volumes",
            id="a mount of a volume that is not there",
        ),
        pytest.param(
            job(checkpoint={**SAFE, "directory": "/stowage/worker"}),
            "spec.checkpoint.directory",
            "/stowage is where Stowage mounts its own files",
            id="checkpoints over the supervisor",
        ),
        pytest.param(
            job(trainer={"args": ["x" * 60_000] * 5}),
            "spec.template.spec",
            "must have at most 262144 bytes",
            id="a template that is too large",
        ),
    ],
)
def test_what_could_never_run_is_refused(document: dict[str, Any], field: str, rule: str) -> None:
    (problem,) = judge(request(document), known()).problems
    assert problem.field == field
    assert problem.rule.startswith(rule)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(job(layouts={}), "spec.layouts is accepted, and this version does not act on it", id="not yet"),
        pytest.param(
            job(checkpoint={"volume": {"emptyDir": {}}}),
            "spec.checkpoint.volume = emptyDir: checkpoints stay behind when a pod moves to another node",
            id="checkpoints on one node",
        ),
        pytest.param(
            job(checkpoint={}),
            "spec.checkpoint.volume is absent and the trainer mounts nothing at /checkpoints: checkpoints that are "
            "written there are lost with their pod",
            id="checkpoints in the container",
        ),
        pytest.param(
            job(trainer={"resources": {}}),
            "spec.template: the trainer asks for no resources, so any number of such pods is taken to fit on a node",
            id="no resources",
        ),
        pytest.param(
            job(nodes={"min": 1, "max": 2}, batch={"global": 6, "micro": 2}, processesPerNode=2),
            "spec.batch.global = 6: cannot be divided evenly among the ranks of 1, 2 nodes; the program has to, or "
            "spec.nodes.allowed leaves them out",
            id="a batch that does not divide",
        ),
        pytest.param(
            job(recovery=rules({"exitCodes": [1, 2]}, {"exitCodes": [2]})),
            "spec.recovery.rules[1] is never reached: rule 0 matches first",
            id="a rule behind another one",
        ),
        pytest.param(
            job(recovery=rules({"event": "Log"})),
            "spec.recovery.rules[0].when.event = Log: no rule says which lines are looked for",
            id="an event that never comes",
        ),
        pytest.param(
            job(nodes={"min": 2}, elastic={}),
            "spec.elastic has no effect: spec.nodes allows 2 nodes and no other number",
            id="elastic, with one number of nodes",
        ),
        pytest.param(
            job(nodes={"min": 1, "max": 2}, queueName="a"),
            "spec.queueName: a job in a queue takes no more nodes by itself, for only Kueue knows the quota; "
            "spec.nodes.target asks for them",
            id="elastic, in a queue",
        ),
        pytest.param(
            job(nodes={"min": 3}),
            "spec.nodes.min = 3: there are 2 nodes now, so the job waits",
            id="more nodes than there are",
        ),
        pytest.param(
            job(topology={"keys": ["rack", "block"]}),
            "spec.topology.keys: no node has label block now",
            id="a label that no node has",
        ),
        pytest.param(
            job(pod={"priorityClassName": "highest"}),
            "spec.template.spec.priorityClassName = highest: there is no such PriorityClass, so no pod can be made",
            id="a priority that is not there",
        ),
    ],
)
def test_what_is_hardly_meant_is_told(document: dict[str, Any], words: str) -> None:
    verdict = judge(request(document), known())
    assert verdict.allowed
    assert verdict.warnings == (words,)


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        pytest.param({"min": 1, "max": 4, "target": 2}, "2 go on", id="fewer are asked for"),
        pytest.param({"min": 1, "max": 2}, "2 go on", id="so many are not allowed any more"),
        pytest.param({"min": 1, "max": 8, "allowed": [2, 4]}, "2 go on", id="nor such a number"),
        pytest.param({"min": 1, "max": 4, "target": 4}, "", id="more are asked for: nobody stops yet"),
        pytest.param({"min": 1, "max": 8}, "", id="more are allowed"),
    ],
)
def test_a_change_that_stops_who_trains_is_told(nodes: dict[str, Any], told: str) -> None:
    before = job(nodes={"min": 1, "max": 4})
    seats = [{"seat": f"s{number}", "attempt": 1} for number in range(3)]
    before["status"] = {"phase": "Running", "seats": seats, "members": [one["seat"] for one in seats]}
    warnings = judge(request(changed(before, nodes=nodes), before), known()).warnings
    found = [one for one in warnings if "step boundary" in one]
    assert bool(found) is bool(told)
    assert all("3 nodes train" in one and told in one for one in found)


@pytest.mark.parametrize(
    ("policies", "covered"),
    [
        pytest.param([policy()], False, id="a policy for another scheduler"),
        pytest.param([policy(schedulerNames=["default-scheduler"])], True, id="a policy for the pods' scheduler"),
        pytest.param(
            [policy(schedulerNames=["default-scheduler"], podSelector={"matchLabels": {"team": "b"}})],
            False,
            id="a policy for other pods",
        ),
        pytest.param(
            [policy(schedulerNames=["default-scheduler"], namespaceSelector={"matchLabels": {"team": "a"}})],
            True,
            id="a policy for the namespace",
        ),
        pytest.param(
            [policy(schedulerNames=["default-scheduler"], namespaceSelector={"matchLabels": {"team": "b"}})],
            False,
            id="a policy for another namespace",
        ),
    ],
)
def test_pods_that_no_policy_covers_are_told_of(policies: list[dict[str, Any]], covered: bool) -> None:
    warnings = judge(request(job()), known(*policies)).warnings
    assert any("no PackingPolicy covers the pods" in one for one in warnings) is not covered


def test_a_job_whose_policies_could_not_be_read_is_let_through_with_a_word() -> None:
    verdict = judge(request(job()), Known(None, "the API server is slow", CLUSTER))
    assert verdict.warnings == ("not checked whether a PackingPolicy covers the pods: the API server is slow",)


def test_what_a_job_said_before_is_no_reason_to_refuse_its_suspension() -> None:
    senseless = job(recovery=rules(log("a", "x"), log("a", "y")))
    verdict = judge(request(changed(senseless, suspend=True), senseless), known())
    assert verdict.allowed
    assert any("(it said so before)" in one for one in verdict.warnings)


NO_SUCH_RULE = (
    "spec.recovery.rules[0].when.promql.rule = {}: the operator's settings have no such rule for this namespace"
)
OF_WHOLE_JOBS = (
    "spec.recovery.rules[0].do = ReplaceNode: {} speaks of whole jobs and names no pod, so all processes start again"
)
RULES = {
    "spike": PromqlRule("spike", "loss > 10"),
    "theirs": PromqlRule("theirs", "loss > 10", namespaces=frozenset({"team-b"})),
    "xid": PromqlRule("xid", "xid > 0", name_label="pod", of_pods=True),
}


@pytest.mark.parametrize(
    ("name", "action", "words"),
    [
        pytest.param("spike", "Pause", None, id="known"),
        pytest.param("xid", "ReplaceNode", None, id="of pods"),
        pytest.param("spkie", "Pause", NO_SUCH_RULE, id="misspelled"),
        pytest.param("theirs", "Pause", NO_SUCH_RULE, id="of another namespace"),
        pytest.param("spike", "ReplaceNode", OF_WHOLE_JOBS, id="a node that no series names"),
    ],
)
def test_names_of_promql_rules_are_looked_up(name: str, action: str, words: str | None) -> None:
    rule = {"when": {"promql": {"rule": name}}, "do": action}
    document = request(job(recovery={"rules": [rule]}))
    said = judge(document, structs.replace(known(), promql_rules=RULES)).warnings
    assert said == ((words.format(name),) if words is not None else ())
    assert judge(document, known()).warnings == (), "nobody knows them"
