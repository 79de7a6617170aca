"""What the chart tells people: its notes after an installation, and the words with which templates refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.chart import CHART, KUBERNETES, MATRIX, named, objects, run


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its notes in a manifest, for `helm template` prints none."""
    folder = tmp_path_factory.mktemp("chart") / "stowage"
    shutil.copytree(CHART, folder)
    (folder / "templates" / "NOTES.txt").rename(folder / "NOTES.txt")
    text = 'notes: |\n  {{- tpl (.Files.Get "NOTES.txt") . | nindent 2 }}\n'
    (folder / "templates" / "notes.yaml").write_text(text)
    return folder


def notes(chart: Path, values: dict[str, Any], *options: str) -> str:
    command = ["template", "stowage", chart, "--kube-version", KUBERNETES, "--namespace", "stowage-system"]
    command += ["--show-only", "templates/notes.yaml", "--values", "-", *options]
    result = run("helm", *command, given=json.dumps(values))
    assert not result.returncode, result.stderr
    return str(yaml.safe_load(result.stdout)["notes"])


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        pytest.param({}, 'The policy "default" is in mode Recommend:\n   it moves nothing by itself.', id="recommends"),
        pytest.param({"mode": "Enforce"}, "is in mode Enforce:\n   it moves pods by itself.", id="enforces"),
        pytest.param({"enabled": False}, "Without a PackingPolicy nothing happens; write one first.", id="none"),
    ],
)
def test_the_notes_tell_what_the_default_policy_does(speaking: Path, policy: dict[str, Any], words: str) -> None:
    assert words in notes(speaking, {"packing": {"defaultPolicy": policy}})


@pytest.mark.parametrize("values", [MATRIX["as it comes"], MATRIX["held to namespaces"]], ids=["whole", "held"])
def test_an_upgrade_that_finds_no_policy_tells_how_to_make_the_one_of_an_installation(
    speaking: Path, values: dict[str, Any]
) -> None:
    text = notes(speaking, values, "--is-upgrade")
    assert "was not found, and upgrades make none" in text
    told = yaml.safe_load(text.partition("<<END\n")[2].partition("\nEND\n")[0])
    made = named(objects(values), "PackingPolicy", "default")
    assert (told["metadata"]["name"], told["spec"]) == ("default", made["spec"])


@pytest.mark.parametrize(
    ("values", "namespace", "words"),
    [
        pytest.param({}, "kube-system", "take a namespace of Stowage's own", id="beside the control plane's leases"),
        pytest.param(
            {"scheduler": {"enabled": True}, "controlPlaneExtender": {"enabled": True, "holder": "n"}},
            "stowage-system",
            "choose one",
            id="two schedulers to follow",
        ),
        pytest.param(
            {"packing": {"enabled": False}, "scheduler": {"enabled": True}},
            "stowage-system",
            "without an operator there are no plans for an extender",
            id="a scheduler that nobody plans for",
        ),
        pytest.param(
            {"packing": {"enabled": False}, "controlPlaneExtender": {"enabled": True, "holder": "n"}},
            "stowage-system",
            "without an operator there are no plans for an extender",
            id="an extender that nobody plans for",
        ),
        pytest.param(
            {"training": {"promqlRules": [{"name": "a", "query": "up", "endpoint": "gpus"}]}},
            "stowage-system",
            "training.promqlRules: a asks endpoint gpus, which is not in prometheus.endpoints",
            id="a rule without a server",
        ),
    ],
)
def test_templates_refuse_what_slips_past_the_schema(values: dict[str, Any], namespace: str, words: str) -> None:
    command = ["template", "stowage", CHART, "--kube-version", KUBERNETES, "--namespace", namespace]
    result = run("helm", *command, "--skip-schema-validation", "--values", "-", given=json.dumps(values))
    assert result.returncode
    assert words in result.stderr
