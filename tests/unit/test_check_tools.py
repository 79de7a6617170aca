"""The builder of the programs that check the chart: its pins are its own, its cache apart from the cluster's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def check_tools(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which is part of no package."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "cluster_tools", raising=False)
    monkeypatch.delitem(sys.modules, "check_tools", raising=False)
    return importlib.import_module("check_tools")


def test_go_mod_names_programs_and_versions(check_tools: ModuleType) -> None:
    modules = {name: module for module in check_tools.modules() for name in module.packages}
    assert set(modules) == {"helm", "kubeconform", "helm-docs", "promtool"}
    for name, module in modules.items():
        assert module.linker_flags.endswith(f"=v{module.version}"), name


def test_the_cache_is_apart_from_that_of_the_cluster(check_tools: ModuleType) -> None:
    cluster = check_tools.cluster_tools.cache_folder()
    assert check_tools.cache_folder() != cluster
    assert check_tools.cache_folder().parent == cluster.parent


def test_programs_are_taken_one_by_one_from_a_given_folder(
    check_tools: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for module in check_tools.modules():
        for name in module.packages:
            file = given / name
            file.write_text(f"#!/bin/sh\necho 'version v{module.version}'\n")
            file.chmod(0o755)
    monkeypatch.setenv("STOWAGE_TOOLS_BIN", str(given))
    monkeypatch.setenv("STOWAGE_CACHE", str(tmp_path / "cache"))
    folder = check_tools.programs_folder()
    assert folder != given
    assert {file.name for file in folder.iterdir()} == {"helm", "kubeconform", "helm-docs", "promtool"}
