"""Where checkpoints lie and which one counts: `<dir>/attempt-<a>/step-<s>`, whole once `COMMITTED` stands in it.

Two attempts never write the same path, so a process that was given up but still writes harms nobody. What an attempt
goes on from is decided once, by the rank that asks first, and kept in `<dir>/attempt-<a>/RESUMED_FROM`: all ranks get
the same answer, whenever they ask and whatever is committed meanwhile, also by this attempt. Both are told as progress,
so that the job's status knows the newest checkpoint after any restart.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from stowage_worker.client import report

MARKER = "COMMITTED"
RESUMED_FROM = "RESUMED_FROM"
_ATTEMPT = re.compile(r"attempt-(\d{1,9})")
_STEP = re.compile(r"step-(\d{1,18})")


@dataclass(frozen=True)
class SavedStep:
    """One committed checkpoint."""

    attempt: int
    step: int
    path: Path


def checkpoint_path(step: int, directory: Path | None = None, attempt: int | None = None) -> Path:
    """The folder for a checkpoint of this attempt, made if it is not there; any rank may ask.

    Args:
        step: which step it holds.
        directory: the job's, else from `STOWAGE_CHECKPOINT_DIR`.
        attempt: else from `STOWAGE_ATTEMPT`.

    Raises:
        ValueError: no directory is known.
    """
    path = _directory(directory) / f"attempt-{_attempt(attempt)}" / f"step-{step}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def commit_checkpoint(path: str | Path, *, is_durable: bool = True) -> None:
    """Say that a checkpoint is whole: one rank calls it, after all have written.

    Args:
        path: from `checkpoint_path`.
        is_durable: first let the disk have what lies there, so that it outlives a loss of power.
    """
    folder = Path(path)
    if is_durable:
        for parent, _, names in os.walk(folder):
            for name in names:
                _sync(Path(parent) / name)
            _sync(Path(parent))
    temporary = folder / f"{MARKER}.{os.getpid()}"
    temporary.write_text("")
    if is_durable:
        _sync(temporary)
    temporary.replace(folder / MARKER)
    if is_durable:
        _sync(folder)
        _sync(folder.parent)
    step = _STEP.fullmatch(folder.name)
    if step is not None:
        report(checkpoint_step=int(step[1]), checkpoint_uri=str(folder))


def committed(directory: Path | None = None) -> list[SavedStep]:
    """All committed checkpoints, newest first: later attempts before earlier ones, then by step.

    A later attempt counts before a higher step: it knows what came before, an earlier one that still writes does not.
    """
    found = []
    for attempt, attempt_path in _numbered(_directory(directory), _ATTEMPT):
        for step, path in _numbered(attempt_path, _STEP):
            if (path / MARKER).exists():
                found.append(SavedStep(attempt, step, path))
    return sorted(found, key=lambda one: (one.attempt, one.step), reverse=True)


def newest_checkpoint(directory: Path | None = None, attempt: int | None = None) -> SavedStep | None:
    """The checkpoint to go on from, the newest of the attempts before; None: begin anew.

    All ranks of an attempt get the same one, whenever they ask: what this attempt commits itself counts for the next.
    To go back within an attempt choose from `committed`. Without `STOWAGE_ATTEMPT` and argument: the newest of all.
    """
    base = _directory(directory)
    current = _attempt(attempt)
    saved = committed(base)
    if current == 0:
        return saved[0] if saved else None
    before = [one for one in saved if one.attempt < current]
    origin = _pinned(base, current, before[0] if before else None)
    if origin is not None and not any(one.attempt == current for one in saved):
        report(checkpoint_step=origin.step, checkpoint_uri=str(origin.path))
    return origin


def _pinned(base: Path, attempt: int, proposal: SavedStep | None) -> SavedStep | None:
    """The attempt's origin: the proposal if it is the first, else what was written before."""
    folder = base / f"attempt-{attempt}"
    pin = folder / RESUMED_FROM
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{RESUMED_FROM}.{os.uname().nodename}.{os.getpid()}"
    temporary.write_text(json.dumps({"attempt": proposal.attempt, "step": proposal.step} if proposal else {}))
    try:
        os.link(temporary, pin)  # whole at once, and only for the first
    except FileExistsError:
        pass
    except OSError:  # a file system without links: the rank that asks decides for itself
        return proposal
    finally:
        temporary.unlink()
    kept = json.loads(pin.read_text())
    if not kept:
        return None
    return SavedStep(kept["attempt"], kept["step"], base / f"attempt-{kept['attempt']}" / f"step-{kept['step']}")


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [(int(found[1]), entry) for entry in entries if (found := pattern.fullmatch(entry.name))]


def _directory(given: Path | None) -> Path:
    if given is not None:
        return Path(given)
    told = os.environ.get("STOWAGE_CHECKPOINT_DIR", "")
    if not told:
        raise ValueError("no checkpoint directory: neither an argument nor STOWAGE_CHECKPOINT_DIR")
    return Path(told)


def _attempt(given: int | None) -> int:
    return int(os.environ.get("STOWAGE_ATTEMPT") or 0) if given is None else given


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # a file system that has nothing to sync
        pass
    finally:
        os.close(descriptor)
