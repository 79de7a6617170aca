"""The documentation says what is: commands, reasons, rights and values on its pages exist, and none is left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from stowage.api.model_service_reasons import GroupReason, ScalingReason, ServiceCondition, ServiceReason
from stowage.api.reasons import PlanCondition, PlanReason, PolicyCondition, PolicyReason, StepReason
from stowage.api.training_reasons import JobCondition, JobReason
from stowage.cli.app import app
from stowage.cli.rights import ALL_RIGHTS, Process
from stowage.decide.announcements import Announcement, EventReason
from stowage.decide.serving.service_announcements import ServiceAnnouncement, ServiceEventReason
from stowage.decide.training.job_announcements import JobAnnouncement, JobEventReason
from stowage.decide.training.recovery_reasons import RecoveryReason
from stowage.observe.trouble import TroubleReason
from stowage_scheduler.packing import PodRef, Reason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", *ROOT.glob("helm/stowage/README.md")])
CODE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
SHELL = {"sh", "console"}
COMMANDS: Any = typer.main.get_command(app)


def commands(text: str) -> Iterator[str]:
    """Command lines on a page: of blocks for shells (with their prompt, if output follows), and within sentences."""
    for language, block in CODE.findall(text):
        if language not in SHELL:
            continue
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        yield from prompted if language == "console" else map(str.strip, lines)
    for paragraph in re.split(r"\n\s*\n", CODE.sub("\n\n", text)):
        yield from INLINE.findall(paragraph.replace("\n", " "))


def single_commands(text: str) -> Iterator[list[str]]:
    """The words of each command, those after `&&`, `;` and `|` on their own."""
    for line in commands(text):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that opens within a sentence
            continue
        command: list[str] = []
        for word in words:
            if word in {"&&", "|", "&", ";", "||", ">", "#"}:
                yield command
                command = []
            else:
                command.append(word.rstrip(";"))
        yield command


def of_stowage(text: str) -> Iterator[list[str]]:
    """What is asked of `stowage` or `kubectl stowage`."""
    for words in single_commands(text):
        if words[:1] == ["stowage"] and len(words) > 1:
            yield words[1:]
        elif words[:2] == ["kubectl", "stowage"] and len(words) > 2:
            yield words[2:]


def fault(arguments: list[str]) -> str:
    """What is wrong with a command; empty: nothing."""
    name, *rest = arguments
    if name in {"-h", "--help"}:
        return ""
    command = COMMANDS.commands.get(name)
    if command is None:
        return f"stowage {name}: no such command"
    while (inner := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        name, command = f"{name} {rest[0]}", inner.get(rest[0])
        rest = rest[1:]
        if command is None:
            return f"stowage {name}: no such command"
    known = {flag: option for option in command.params for flag in option.opts if flag.startswith("-")}
    unknown = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in {*known, "-h", "--help"}]
    return f"stowage {name}: no such flags: {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_commands_on_a_page_exist_with_their_flags(page: Path) -> None:
    faults = {fault(arguments) for arguments in of_stowage(page.read_text(encoding="utf-8"))}
    assert faults - {""} == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            "`stowage simulate weather`", "stowage simulate weather: no such command", id="none of that name in a group"
        ),
        pytest.param(
            "`stowage simulate packing --trace FOLDER --rain`",
            "stowage simulate packing: no such flags: --rain",
            id="a flag that is not there, of a command in a group",
        ),
        pytest.param("`stowage frobnicate`", "stowage frobnicate: no such command", id="a command that is not there"),
        pytest.param(
            "```sh\nkubectl get pods && kubectl stowage doctor --mend\n```",
            "stowage doctor: no such flags: --mend",
            id="a flag that is not there, in a block, behind another command",
        ),
        pytest.param(
            "```console\n$ stowage top --everything\nstowage top said so\n```",
            "stowage top: no such flags: --everything",
            id="a flag that is not there, after a prompt",
        ),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, found: str) -> None:
    assert [fault(arguments) for arguments in of_stowage(text)] == [found]


def names(commands: Any, above: str = "") -> Iterator[str]:
    """Every command, those of groups with the group's name before theirs."""
    for name, command in commands.items():
        inner = getattr(command, "commands", None)
        yield from names(inner, f"{above}{name} ") if inner else [f"{above}{name}"]


def test_every_command_is_described() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert {name for name in names(COMMANDS.commands) if f"stowage {name}" not in page} == set()


def sections(page: Path) -> dict[str, str]:
    """Text of each section of the second level, by its heading."""
    _, *parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def first_cells(text: str) -> list[str]:
    """Words of code in the first column of tables."""
    return re.findall(r"^\| \*{0,2}`([^`]+)`\*{0,2} \|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "reasons"),
    [
        pytest.param("Why a pod stays pending", Reason, id="why a pod stays pending"),
        pytest.param("Events on pods", EventReason, id="events on pods"),
        pytest.param("Events on training jobs", JobEventReason, id="events on training jobs"),
        pytest.param("Events on model services", ServiceEventReason, id="events on model services"),
        pytest.param("A policy", PolicyReason, id="conditions of a policy"),
        pytest.param("A plan", PlanReason, id="a plan's phase"),
        pytest.param("A step", StepReason, id="a step's state"),
        pytest.param("A training job", JobReason, id="conditions of a training job"),
        pytest.param("A recovery", RecoveryReason, id="why a recovery does what it does"),
        pytest.param("A model service", ServiceReason, id="conditions of a model service"),
        pytest.param("A scaling decision", ScalingReason, id="why a role has so many replicas"),
        pytest.param("A replica of several pods", GroupReason, id="why all its pods are made anew"),
        pytest.param("What is not followed", TroubleReason, id="why a collection is not followed"),
    ],
)
def test_each_reason_has_its_row_and_no_other_word_has_one(heading: str, reasons: type[StrEnum]) -> None:
    rows = first_cells(sections(DOCS / "reasons.md")[heading])
    assert set(rows) == {reason.value for reason in reasons}


def test_events_that_are_warnings_are_set_in_bold() -> None:
    bold = re.findall(r"^\| \*\*`([^`]+)`\*\* \|", sections(DOCS / "reasons.md")["Events on pods"], re.MULTILINE)
    pod = PodRef("ml", "train-0", "u1")
    assert set(bold) == {reason.value for reason in EventReason if Announcement(pod, reason, "").warning}
    text = sections(DOCS / "reasons.md")["Events on training jobs"]
    bold = re.findall(r"^\| \*\*`([^`]+)`\*\* \|", text, re.MULTILINE)
    assert set(bold) == {reason.value for reason in JobEventReason if JobAnnouncement(reason, "").warning}
    text = sections(DOCS / "reasons.md")["Events on model services"]
    bold = re.findall(r"^\| \*\*`([^`]+)`\*\* \|", text, re.MULTILINE)
    assert set(bold) == {reason.value for reason in ServiceEventReason if ServiceAnnouncement(reason, "").warning}


def test_each_type_of_condition_is_named() -> None:
    text = sections(DOCS / "reasons.md")
    missing = {kind for kind in PolicyCondition if f"`{kind.value}`" not in text["A policy"]}
    missing |= {kind for kind in JobCondition if f"`{kind.value}`" not in text["A training job"]}
    missing |= {kind for kind in ServiceCondition if f"`{kind.value}`" not in text["A model service"]}
    assert missing | {kind for kind in PlanCondition if f"`{kind.value}`" not in text["A plan"]} == set()


@pytest.mark.parametrize(
    ("heading", "process"),
    [
        pytest.param("Operator", Process.OPERATOR, id="operator"),
        pytest.param("Extender", Process.EXTENDER, id="extender"),
    ],
)
def test_the_list_of_rights_is_that_of_the_code(heading: str, process: Process) -> None:
    text = sections(DOCS / "security.md")["Rights of the processes"]
    table = text.partition(f"### {heading}\n")[2].partition("###")[0]
    said = set()
    for resources, verbs in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE)[1:]:
        group, _, names = resources.rpartition(": ")
        said |= {(group, name.strip(), verb.strip()) for name in names.split(",") for verb in re.split("[,;]", verbs)}
    granted = {
        (right.group, resource, verb)
        for right in ALL_RIGHTS
        if right.process is process
        for resource in right.resources
        for verb in right.verbs
    }
    assert said == granted


def values(tree: Any, path: str = "") -> Iterator[str]:
    yield path
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from values(inner, f"{path}.{key}" if path else key)


SET = re.compile(r"--set(?:-\w+)? '?([A-Za-z][\w.]*)=")


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_values_that_commands_set_exist(page: Path) -> None:
    known = set(values(yaml.safe_load((ROOT / "helm/stowage/values.yaml").read_text(encoding="utf-8"))))
    assert set(SET.findall(page.read_text(encoding="utf-8"))) - known == set()
