from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker import checkpoints
from stowage_worker.checkpoints import MARKER, checkpoint_path, commit_checkpoint, committed, newest_checkpoint


def save(directory: Path, attempt: int, step: int, *, commit: bool = True) -> Path:
    path = checkpoint_path(step, directory, attempt)
    (path / "state").write_text(str(step))
    if commit:
        commit_checkpoint(path)
    return path


def origin(directory: Path, attempt: int) -> tuple[int, int] | None:
    found = newest_checkpoint(directory, attempt)
    return (found.attempt, found.step) if found else None


def test_only_committed_ones_count(tmp_path: Path) -> None:
    save(tmp_path, 1, 10)
    save(tmp_path, 1, 20, commit=False)
    assert origin(tmp_path, 2) == (1, 10)


def test_a_later_attempt_counts_before_a_higher_step(tmp_path: Path) -> None:
    save(tmp_path, 1, 10)
    assert origin(tmp_path, 2) == (1, 10)
    save(tmp_path, 2, 12)
    save(tmp_path, 1, 20)  # the first attempt was given up, but still wrote
    assert origin(tmp_path, 3) == (2, 12)


def test_all_ranks_of_an_attempt_resume_from_the_same(tmp_path: Path) -> None:
    save(tmp_path, 1, 10)
    assert origin(tmp_path, 2) == (1, 10)
    save(tmp_path, 1, 20)
    assert origin(tmp_path, 2) == (1, 10)
    assert origin(tmp_path, 3) == (1, 20)


def test_nothing_to_resume_from_is_remembered_too(tmp_path: Path) -> None:
    assert origin(tmp_path, 2) is None
    save(tmp_path, 1, 20)
    assert origin(tmp_path, 2) is None


def test_what_an_attempt_commits_itself_counts_for_the_next(tmp_path: Path) -> None:
    save(tmp_path, 1, 10)
    origin(tmp_path, 2)
    save(tmp_path, 2, 15)
    assert origin(tmp_path, 2) == (1, 10), "also for a rank that asks late"
    assert origin(tmp_path, 3) == (2, 15)


def test_the_status_hears_of_what_is_committed_and_of_what_an_attempt_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(checkpoints, "report", lambda **words: told.append(words))
    path = save(tmp_path, 1, 10)
    origin(tmp_path, 2)
    assert told == [{"checkpoint_step": 10, "checkpoint_uri": str(path)}] * 2
    own = save(tmp_path, 2, 15)
    origin(tmp_path, 2)
    assert told[2:] == [{"checkpoint_step": 15, "checkpoint_uri": str(own)}], "an older one is no news then"


def test_what_else_lies_there_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("attempt-x", "attempt-1/step-", "attempt-1/tmp", "notes"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / MARKER).write_text("")
    (tmp_path / "attempt-3").write_text("a file")
    assert committed(tmp_path) == []
    assert committed(tmp_path / "not there") == []


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOWAGE_CHECKPOINT_DIR", raising=False)
    with pytest.raises(ValueError, match="STOWAGE_CHECKPOINT_DIR"):
        newest_checkpoint()
    monkeypatch.setenv("STOWAGE_CHECKPOINT_DIR", str(tmp_path))
    monkeypatch.setenv("STOWAGE_ATTEMPT", "4")
    path = checkpoint_path(9)
    assert path == tmp_path / "attempt-4" / "step-9"
    commit_checkpoint(path, is_durable=False)
    monkeypatch.delenv("STOWAGE_ATTEMPT")
    found = newest_checkpoint()
    assert found is not None
    assert (found.attempt, found.step, found.path) == (4, 9, path)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5), st.booleans()), max_size=8))
def test_the_newest_is_the_greatest_of_those_before(
    tmp_path_factory: pytest.TempPathFactory, saved: list[tuple[int, int, bool]]
) -> None:
    directory = tmp_path_factory.mktemp("checkpoints")
    for attempt, step, is_whole in saved:
        save(directory, attempt, step, commit=is_whole)
    whole = [(attempt, step) for attempt, step, is_whole in saved if is_whole]
    assert origin(directory, 4) == max(whole, default=None)
