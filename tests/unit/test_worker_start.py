from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import pytest

from stowage_worker import __file__ as package
from stowage_worker.supervisor_command import UsageError, run_directory


def test_pythons_that_are_too_old_can_read_the_file_that_tells_them_so() -> None:
    text = Path(package).with_name("__main__.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    _, imported, check, *rest = tree.body
    assert ast.unparse(imported) == "import sys"
    assert isinstance(check, ast.If), "the version is asked for before anything else is imported"
    assert not any(isinstance(one, ast.ImportFrom) and one.module == "__future__" for one in rest)


@pytest.mark.parametrize("is_there", [True, False], ids=["full", "not there"])
def test_a_run_directory_where_memory_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    def make(prefix: str, **where: str) -> str:
        if where:
            (tmp_path / "memory" / "probe" / "in the way").mkdir(parents=is_there)
            return str(tmp_path / "memory")
        (tmp_path / prefix).mkdir()
        return str(tmp_path / prefix)

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    assert run_directory({}) == tmp_path / "stowage-"
    assert not (tmp_path / "memory").exists()


def test_no_run_directory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(**_: object) -> str:
        raise FileNotFoundError("No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    with pytest.raises(UsageError, match="mount an emptyDir at /tmp"):
        run_directory({})


def test_a_run_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="STOWAGE_RUN_DIR"):
        run_directory({"STOWAGE_RUN_DIR": str(tmp_path / "file")})
