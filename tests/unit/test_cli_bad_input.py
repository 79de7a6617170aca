"""Whatever a user feeds the command line: an exit code that means something, one line, never a traceback."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from stowage.cli import run

Document = dict[str, Any]


def listed(*items: Document) -> Document:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def node(name: str = "n1", cpu: str = "4", **more: Any) -> Document:
    amounts = {"cpu": cpu, "memory": "8Gi", "pods": "110"}
    ready = {"type": "Ready", "status": "True"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"allocatable": amounts, "conditions": [ready]},
        **more,
    }


def pod(name: str = "web-1", cpu: str = "1", on: str | None = None) -> Document:
    container = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": f"uid-{name}"},
        "spec": {"containers": [container], **({"nodeName": on} if on else {})},
        "status": {"phase": "Running" if on else "Pending"},
    }


GOOD = listed(node(), pod())

REFUSED = {
    "empty file": b"",
    "not JSON": b"hello: [",
    "truncated dump": json.dumps(GOOD).encode()[:-40],
    "a single object instead of a List": json.dumps(node()).encode(),
    "a JSON array": b"[1, 2, 3]",
    "a number": b"42",
    "10 MB in one string": b'"' + b"x" * 10_000_000 + b'"',
    "10 MB as the kind": json.dumps({"kind": "x" * 10_000_000, "items": []}).encode(),
    "bytes that are no text": b"\xff\xfe\x00\x01" * 10,
    "deeply nested": b"[" * 100_000,
    "items that are no list": b'{"apiVersion": "v1", "kind": "List", "items": {"a": 1}}',
}


@pytest.mark.parametrize("command", ["plan", "top", "why pod/web-1"])
@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_is_no_dump_is_refused_in_one_line(
    command: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_bytes(content)

    assert run([*command.split(), "-f", str(file)]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("stowage: ")
    assert said.err.count("\n") == 1
    assert len(said.err) < 700


REJECTED = {
    "negative CPU of a pod": (listed(node(), pod(cpu="-1")), "Pod"),
    "absurd CPU of a pod": (listed(node(), pod(cpu="9" * 400)), "Pod"),
    "CPU that is no quantity": (listed(node(), pod(cpu="much")), "Pod"),
    "10 MB of CPU": (listed(node(), pod(cpu="1" * 10_000_000)), "Pod"),
    "negative CPU of a node": (listed(node(cpu="-4"), pod()), "Node"),
    "two pods of one name": (listed(node(), pod(), pod()), "Pod"),
    "two nodes of one name": (listed(node(), node(), pod()), "Node"),
    "pod bound to an unknown node": (listed(node(), pod(on="n9")), "Pod"),
    "unknown kind": (
        listed(node(), {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}),
        "Widget",
    ),
    "object without a kind": (listed(node(), {"metadata": {"name": "w"}}), ""),
    "pod that is a list": (listed(node(), {"apiVersion": "v1", "kind": "Pod", "metadata": [], "spec": []}), "Pod"),
}


@pytest.mark.parametrize(("dump", "kind"), REJECTED.values(), ids=REJECTED.keys())
def test_a_broken_object_is_left_out_and_listed(
    dump: Document, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(dump))

    code = run(["plan", "-f", str(file), "--budget", "200ms", "-o", "json"])

    said = capsys.readouterr()
    assert code in {0, 1}, said.err
    rejected = json.loads(said.out)["rejectedObjects"]
    assert rejected, "nothing was listed"
    assert all(set(one) == {"kind", "name", "field", "value", "rule"} for one in rejected)
    assert not kind or kind in {one["kind"] for one in rejected}
    assert len(said.out) < 20_000, "a huge value must be cut short"


USAGE = {
    "unknown command": "fly",
    "unknown option": "plan --bogus",
    "budget without unit": "plan -f {dump} --budget 10",
    "negative budget": "plan -f {dump} --budget -1s",
    "zero budget": "plan -f {dump} --budget 0s",
    "endless budget": "plan -f {dump} --budget 9999h",
    "two budgets": "plan -f {dump} --budget 1s --deterministic-budget 5",
    "budget that is not a number": "plan -f {dump} --deterministic-budget nan",
    "negative seed": "plan -f {dump} --seed -1",
    "date that is none": "plan -f {dump} --now yesterday",
    "unknown output": "plan -f {dump} -o xml",
    "plot that is no PNG": "plan -f {dump} --plot x.gif",
    "plot in a folder that is not there": "plan -f {dump} --plot {folder}/none/x.png",
    "missing file": "plan -f {folder}/missing.json",
    "folder instead of a file": "plan -f {folder}",
    "policy that is nowhere": "plan -f {dump} --policy other",
    "policy file that is not there": "plan -f {dump} --policy {folder}/p.yaml",
    "dump given as a policy": "plan -f {dump} --policy {dump}",
    "why without a kind": "why web-1 -f {dump}",
    "why of another kind": "why service/n1 -f {dump}",
    "why of a pod that is not there": "why pod/web-9 -n a -f {dump}",
    "why in the wrong namespace": "why pod/web-1 -f {dump}",
    "approve nothing": "approve",
    "approve in upper case": "approve Plan",
    "abort another object's path": "abort ../nodes/n1",
    "pause a name that is too long": "pause " + "x" * 254,
    "resume a name with a line break": "resume a%0a",
    "dump as a table": "dump -o table",
    "dump to what is no form": "dump -o {folder}/dump.json",
    "doctor with a lease without a namespace": "doctor --operator-lease stowage-operator",
    "port out of range": "operator --metrics-port 99999",
    "negative workers": "operator --queue-workers -1",
    "extender port out of range": "extender --port 99999",
}


@pytest.mark.parametrize("line", USAGE.values(), ids=USAGE.keys())
def test_wrong_usage_exits_2(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(GOOD))

    assert run(line.format(dump=dump, folder=tmp_path).split()) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err


POLICIES = {
    "not YAML": "a: [",
    "another kind": "kind: Pod\nmetadata: {name: x}",
    "a list": "- a\n- b",
    "unknown field": "kind: PackingPolicy\nmetadata: {name: x}\nspec: {mod: Enforce}",
    "bad duration": "kind: PackingPolicy\nmetadata: {name: x}\nspec: {disruption: {minPodAge: soon}}",
    "empty": "",
    "aliases that stand for ten million values": (
        "kind: PackingPolicy\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in itertools.pairwise("abcdefg"))
        + "spec: {nodeSelector: {k: *g}}"
    ),
    "deeply nested": "[" * 10_000,
}


@pytest.mark.parametrize("content", POLICIES.values(), ids=POLICIES.keys())
def test_a_broken_policy_file_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump, policy = tmp_path / "dump.json", tmp_path / "policy.yaml"
    dump.write_text(json.dumps(GOOD))
    policy.write_text(content)

    assert run(["plan", "-f", str(dump), "--policy", str(policy)]) == 2

    said = capsys.readouterr()
    assert said.err.startswith("stowage: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("spec", ["{paused: soon}", "{budget: {time: [1]}}"])
def test_a_policy_value_of_the_wrong_type_is_named_with_its_rule(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump, policy = tmp_path / "dump.json", tmp_path / "policy.yaml"
    dump.write_text(json.dumps(GOOD))
    policy.write_text(f"kind: PackingPolicy\nmetadata: {{name: x}}\nspec: {spec}")

    assert run(["plan", "-f", str(dump), "--policy", str(policy)]) == 2

    assert re.search(r"spec\.\S+ = .*: must be ", capsys.readouterr().err)


@pytest.mark.parametrize("metadata", ["x", [], {"name": [1]}, 7], ids=repr)
def test_a_policy_without_a_usable_name_in_a_dump(
    metadata: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump.json"
    policy = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": metadata}
    dump.write_text(json.dumps(listed(node(), pod(), policy)))

    assert run(["plan", "-f", str(dump), "--policy", "x"]) == 2

    assert "internal error" not in capsys.readouterr().err


def test_an_empty_name_is_refused_before_any_request(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("approve", "abort", "pause", "resume"):
        assert run([command, "", "--kubeconfig", "/nowhere"]) == 2
        assert "no object can have this name" in capsys.readouterr().err


KUBECONFIGS = {
    "deeply nested": ("[" * 10_000, "nested too deeply"),
    "not YAML": ("a: [", "kubeconfig"),
    "a list": ("[]", "kubeconfig"),
    "a log-in plugin that is not there": (
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"exec": {"command": "/no/plugin", "apiVersion": "v1"}}}],
            }
        ),
        "exec plugin gave no credentials: [Errno 2] No such file or directory: '/no/plugin'",
    ),
    "a directory": (None, "is a directory"),
}


@pytest.mark.parametrize(("content", "word"), KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
def test_a_kubeconfig_that_cannot_be_used_exits_3_with_one_line(
    content: str | None, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    if content is None:
        kubeconfig.mkdir()
    else:
        kubeconfig.write_text(content)

    assert run(["top", "--kubeconfig", str(kubeconfig)]) == 3

    said = capsys.readouterr().err
    assert word in said
    assert "report it" not in said
    assert said.count("\n") == 1


def test_no_cluster_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    kubeconfig.write_text(json.dumps(document))

    for line in ("plan", "top", "dump", "doctor", "why pod/x", "approve p", "abort p", "pause p", "resume p"):
        assert run([*line.split(), "--kubeconfig", str(kubeconfig)]) == 3, line
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
