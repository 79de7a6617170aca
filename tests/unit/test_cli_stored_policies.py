"""Policies of a dump that other versions wrote: one that can not be read stops no answer about the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stowage.cli import run

Document = dict[str, Any]
QUEUE = {"fairness": {"mode": "UserFairQueue"}}
BROKEN = {"mode": "Perhaps"}


def policy(name: str, **spec: Any) -> Document:
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}, "spec": spec}


NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "uid-web"},
    "spec": {"schedulerName": "stowage", "containers": [{"name": "m", "resources": {"requests": {"cpu": "1"}}}]},
    "status": {"phase": "Pending"},
}
COMMANDS = {
    "plan": ("plan",),
    "why": ("why", "pod/web"),
    "drain": ("drain", "n1", "--dry-run"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("policies", "words"),
    [
        pytest.param((policy("good"), policy("old", **BROKEN)), "left out: policy old", id="another is broken"),
        pytest.param((policy("good", later=1),), "unknown to this version: spec.later", id="a newer field"),
        pytest.param((policy("good", **QUEUE),), "UserFairQueue (acts as None)", id="a value of an earlier version"),
        pytest.param((policy("good"), policy("other", **QUEUE)), "", id="an earlier value elsewhere"),
    ],
)
def test_the_answer_is_given_with_a_remark(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    policies: tuple[Document, ...],
    words: str,
) -> None:
    code, told = answer(tmp_path, capsys, policies, *command)
    assert (code in {0, 1}, words in told) == (True, True), told
    assert answer(tmp_path, capsys, policies, *command, "--policy", "good")[0] in {0, 1}


@pytest.mark.parametrize("wanted", [(), ("--policy", "old")], ids=["the only one", "the wanted one"])
def test_the_policy_that_is_meant_must_be_readable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...]
) -> None:
    policies = (policy("old", **BROKEN), *((policy("good"),) if wanted else ()))
    code, told = answer(tmp_path, capsys, policies, "plan", *wanted)
    assert (code, "policy old" in told and "spec.mode" in told) == (2, True)


def answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policies: tuple[Document, ...], *command: str
) -> tuple[int, str]:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [NODE, POD, *policies]}))
    code = run([*command, "-f", str(dump), "--now", "2026-01-01T00:00:00Z"])
    return code, capsys.readouterr().err
