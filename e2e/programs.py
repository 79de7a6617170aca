"""Programs that a user has: docker, kind, kubectl, helm."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

NEEDED = ("docker", "kind", "kubectl", "helm")
ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = ROOT / "build" / "e2e"


def missing() -> list[str]:
    """What keeps the tests from running, in words."""
    absent = [f"{name} is not on PATH" for name in NEEDED if shutil.which(name) is None]
    if absent:
        return absent
    engine = subprocess.run(["docker", "version"], capture_output=True, check=False)
    return [] if engine.returncode == 0 else ["no Docker engine answers"]


def run(
    *command: str | Path,
    timeout_seconds: float = 300,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> str:
    """What a command printed.

    Raises:
        AssertionError: it failed; with all that it printed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        text=True,
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
