"""TrainingJobs as Python reads them: what the API server refuses is refused here too, by a rule with the field."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.api.resource import InvalidObjectError
from stowage.api.training_job import Nodes, TrainingJob

CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "integration" / "training_job_cases.yaml").read_text(encoding="utf-8")
)
MAIN = {"name": "main", "command": ["a"]}
FIVE_LINES = """\
apiVersion: stowage.dev/v1alpha1
kind: TrainingJob
metadata: {name: toy}
spec:
  template: {spec: {containers: [{name: trainer, image: "python:3.12", command: [python, train.py]}]}}
"""


def job(case: Mapping[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(CASES["job"]) | copy.deepcopy(dict(case.get("spec", {})))
    if spec["template"] is not None:
        spec["template"].setdefault("spec", copy.deepcopy(CASES["job"]["template"]["spec"]))
    if "container" in case:
        spec["template"]["spec"]["containers"][0] |= case["container"]
    spec_of_pods = case.get("pod", {})
    if spec_of_pods:
        spec["template"]["spec"] |= spec_of_pods
    return {"metadata": {"name": case.get("name", "job"), "namespace": "a"}, "spec": spec}


def refusal(document: dict[str, Any]) -> InvalidObjectError:
    with pytest.raises(InvalidObjectError) as refused:
        TrainingJob.parse(document)
    return refused.value


def cases(*groups: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for group in groups for case in CASES[group]]


@pytest.mark.parametrize("case", cases("jobs", "beyond_schemas"))
def test_models_agree_with_the_api_server(case: dict[str, Any]) -> None:
    document = job(case)
    if "field" not in case:
        assert TrainingJob.parse(document).name == document["metadata"]["name"]
        return
    message = str(refusal(document))
    assert case["field"] in message
    assert message.startswith("TrainingJob ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("case", "field", "value", "rule"),
    [
        pytest.param(
            {"spec": {"nodes": {"min": 4, "max": 2}}},
            "spec.nodes",
            "{'min': 4, 'max': 2}",
            "nodes.max must not be less than nodes.min",
            id="a most below the least",
        ),
        pytest.param(
            {"container": {"command": None}},
            "spec.template.spec",
            "{'containers': […]}",
            "the container named trainer, or else the first, must have a command: the supervisor runs it, and cannot "
            "see the entrypoint of an image",
            id="an image whose entrypoint nobody sees",
        ),
        pytest.param(
            {"pod": {"restartPolicy": "Never"}},
            "spec.template.spec",
            "{'containers': […], 'restartPolicy': 'Never'}",
            "restartPolicy must be left out, or OnFailure: Stowage decides what is started again",
            id="a restart policy of its own",
        ),
        pytest.param(
            {"spec": {"recovery": {"rules": [{"when": {}, "do": "Fail"}]}}},
            "spec.recovery.rules[0].when",
            "{}",
            "exactly one of exitCodes, signals, errorTypes, nodeConditions, nodeTaints, event, promql, log must be "
            "given: write a rule for each",
            id="a rule about nothing",
        ),
        pytest.param(
            {"spec": {"recovery": {"rules": [{"when": {"log": {"name": "a", "pattern": "(a+)+b"}}, "do": "Fail"}]}}},
            "spec.recovery.rules[0].when.log.pattern",
            "'(a+)+b'",
            "may take too long on some lines of 1024 characters: use fewer repeats that can end in many places ({0,80} "
            "instead of *), no repeat inside of a repeat, and no .* at the start",
            id="a pattern that backtracks for ever",
        ),
        pytest.param(
            {"spec": {"checkpoint": {"interval": "1ms"}}},
            "spec.checkpoint.interval",
            "'1ms'",
            "must be between 1s and 168h, or Auto",
            id="an interval that is too short",
        ),
        pytest.param(
            {"spec": {"replicas": 3}},
            "spec.replicas",
            "3",
            "is not a known field; check its spelling",
            id="a field of another kind of resource",
        ),
    ],
)
def test_a_refusal_names_field_value_and_rule(case: dict[str, Any], field: str, value: str, rule: str) -> None:
    assert refusal(job(case)).problems == ((field, value, rule),)


def test_five_lines_are_a_job_with_every_default() -> None:
    found = TrainingJob.parse(yaml.safe_load(FIVE_LINES))
    assert len(FIVE_LINES.splitlines()) == 5
    spec = found.spec
    assert (spec.framework, spec.nodes.sizes, spec.processes_per_node) == ("Torch", (1,), 1)
    assert (spec.recovery.budget.restarts, spec.recovery.budget.window.seconds) == (10, 3600)
    assert (spec.checkpoint.interval.seconds, spec.suspend, spec.not_supported()) == (None, False, ())
    assert spec.template.spec.trainer.command == ("python", "train.py")


def test_what_stowage_knows_nothing_of_comes_back_as_it_was_written() -> None:
    case = next(one for one in CASES["jobs"] if one["id"].startswith("a pod template is handed on"))
    document = job(case)
    written = TrainingJob.parse(document).to_document()["spec"]["template"]
    assert written == document["spec"]["template"]


def test_a_template_has_a_largest_size() -> None:
    case = {"container": {"args": ["x" * 60_000] * 5}}
    ((field, _, rule),) = refusal(job(case)).problems
    assert field == "spec.template.spec"
    assert rule.startswith("must have at most 262144 bytes as JSON; it has 300")


@pytest.mark.parametrize(
    ("nodes", "sizes"),
    [
        pytest.param({}, (1,), id="one node by default"),
        pytest.param({"min": 3}, (3,), id="a fixed number"),
        pytest.param({"min": 2, "max": 4}, (2, 3, 4), id="any between the bounds"),
        pytest.param({"min": 2, "max": 8, "allowed": [8, 2, 4]}, (2, 4, 8), id="only the allowed ones, in order"),
    ],
)
def test_the_sizes_of_a_job(nodes: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert Nodes.model_validate(nodes).sizes == sizes


def test_what_this_version_does_not_act_on_is_told() -> None:
    spec = {
        "layouts": {},
        "model": {"layers": 2},
        "checkpoint": {"inMemory": {}, "interval": "10m"},
    }
    assert TrainingJob.parse(job({"spec": spec})).spec.not_supported() == (
        "model",
        "layouts",
        "checkpoint.inMemory",
    )


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        pytest.param({"terminationGracePeriodSeconds": "long"}, "Seconds must be a whole number", id="a time in words"),
        pytest.param({"terminationGracePeriodSeconds": True}, "Seconds must be a whole number", id="true is no number"),
        pytest.param({"tolerations": {"operator": "Exists"}}, "tolerations must be a list", id="one toleration alone"),
        pytest.param({"tolerations": ["Exists"]}, "tolerations[0] must be an object", id="a toleration by name"),
        pytest.param({"affinity": {"nodeAffinity": []}}, "affinity.nodeAffinity must be an object", id="affinities"),
        pytest.param({"schedulerName": 5}, "schedulerName must be a text", id="a scheduler by number"),
        pytest.param({"containers": [{**MAIN, "volumeMounts": 5}]}, "volumeMounts must be a list", id="five mounts"),
        pytest.param(
            {"containers": [{**MAIN, "resources": {"limits": []}}]}, "resources.limits must be an object", id="limits"
        ),
    ],
)
def test_what_stowage_reads_of_fields_that_it_hands_on_has_their_shape(pod: dict[str, Any], words: str) -> None:
    spec = {"containers": [{"name": "trainer", "command": ["a"]}], **pod}
    with pytest.raises(InvalidObjectError) as caught:
        TrainingJob.parse(job({"spec": {"template": {"spec": spec}}}))
    assert words in str(caught.value)


def test_null_is_as_good_as_absent_in_what_is_handed_on() -> None:
    container = {"name": "trainer", "command": ["a"], "volumeMounts": None, "resources": None}
    spec = {"containers": [container], "affinity": None, "tolerations": None, "terminationGracePeriodSeconds": None}
    pod = TrainingJob.parse(job({"spec": {"template": {"spec": spec}}})).spec.template.spec
    assert (pod.grace_seconds, pod.scheduler_name) == (30, "default-scheduler")
