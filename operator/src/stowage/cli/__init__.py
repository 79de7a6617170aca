"""The command line `stowage`, also `kubectl stowage`."""

from __future__ import annotations

from stowage.cli.app import main, run

__all__ = ["main", "run"]
