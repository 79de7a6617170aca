"""The builder of the cluster's programs: what it reads from go.mod and which programs it trusts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster_tools() -> ModuleType:
    """The script, which is part of no package."""
    spec = importlib.util.spec_from_file_location("cluster_tools", ROOT / "tools" / "cluster_tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster_tools"] = module
    spec.loader.exec_module(module)
    return module


def program(folder: Path, name: str, words: str) -> Path:
    """A program that says what it is told."""
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{words}'\n")
    file.chmod(0o755)
    return file


def test_go_mod_names_programs_and_versions(cluster_tools: ModuleType) -> None:
    programs = {name: module.version for module in cluster_tools.modules() for name in module.packages}
    assert set(programs) == {
        *("etcd", "kwok", "kwokctl"),
        *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
    }
    assert programs["kubectl"].startswith("1.36.")


def test_kubernetes_is_stamped_with_its_version(cluster_tools: ModuleType) -> None:
    [kubernetes] = [module for module in cluster_tools.modules() if "kubectl" in module.packages]
    assert f"k8s.io/component-base/version.gitVersion=v{kubernetes.version}" in kubernetes.linker_flags


@pytest.mark.parametrize(
    ("words", "is_it"),
    [
        pytest.param("Kubernetes v1.36.3", True, id="as Kubernetes says it"),
        pytest.param("etcd Version: 1.36.3", True, id="as etcd says it"),
        pytest.param("kwok version v1.36.3 go1.26.8 (linux/amd64)", True, id="as kwok says it"),
        pytest.param("Kubernetes v1.36.31", False, id="longer number"),
        pytest.param("Kubernetes v11.36.3", False, id="longer number in front"),
        pytest.param("Kubernetes v1.36.3-rc.0", False, id="release candidate"),
        pytest.param("Kubernetes v0.0.0-master+$Format:%H$", False, id="not stamped"),
    ],
)
def test_a_program_is_taken_only_in_the_pinned_version(
    cluster_tools: ModuleType, tmp_path: Path, words: str, is_it: bool
) -> None:
    assert cluster_tools.has_version(program(tmp_path, "kube-apiserver", words), "1.36.3") is is_it


def test_a_program_that_does_not_run_is_not_taken(cluster_tools: ModuleType, tmp_path: Path) -> None:
    assert not cluster_tools.has_version(tmp_path / "kube-apiserver", "1.36.3")


def test_a_folder_with_all_programs_is_used_as_it_is(
    cluster_tools: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in cluster_tools.modules():
        for name in module.packages:
            program(tmp_path, name, f"v{module.version}")
    monkeypatch.setenv("STOWAGE_TOOLS_BIN", str(tmp_path))
    assert cluster_tools.programs_folder() == tmp_path


def test_a_failed_build_is_one_line_with_the_log(
    cluster_tools: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "build.log"
    command = ["sh", "-c", "echo compiling; echo disk full >&2; exit 1"]
    with pytest.raises(cluster_tools.ToolsError) as failed:
        cluster_tools.run_logged("building etcd", command, log, {})
    assert str(failed.value) == f"building etcd failed: disk full (whole log: {log})"
    assert capsys.readouterr().out == ""


def test_other_pins_have_another_cache(
    cluster_tools: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cluster_tools.cache_folder()
    (tmp_path / "etcd").mkdir()
    (tmp_path / "etcd" / "go.mod").write_text("module x\n")
    monkeypatch.setattr(cluster_tools, "TOOLS", tmp_path)
    assert cluster_tools.cache_folder() != before
    assert cluster_tools.cache_folder().parent == before.parent
