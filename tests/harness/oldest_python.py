"""The oldest Python that images may bring, where this machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess


def _found() -> str | None:
    """One that runs; a shim without a version behind it does not."""
    found = os.environ.get("STOWAGE_PYTHON39") or shutil.which("python3.9")
    asked = [found, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 9))"]
    return found if found and subprocess.run(asked, capture_output=True, check=False).returncode == 0 else None


PYTHON39 = _found()
