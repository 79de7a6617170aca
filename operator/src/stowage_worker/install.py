"""Copies this package into a folder that user containers share: what the init container of a seat does."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path


def install(directory: Path) -> Path:
    """Copy the package below `directory`, whole or not at all, and return its folder; repeating it renews it.

    `PYTHONPATH=directory` makes it importable; `python directory/stowage_worker run …` runs it without that.
    """
    source = Path(__file__).resolve().parent
    target = directory / source.name
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f".{source.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [fresh, *fresh.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)  # whoever the user's container runs as may read it
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target


def main(arguments: Sequence[str]) -> int:
    """`install DIR`."""
    parser = argparse.ArgumentParser(prog="python -m stowage_worker install", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    install(parser.parse_args(arguments).directory)
    return 0
