"""What runs inside a training pod: supervisor and coordinator, with nothing but the standard library.

Training programs import from here: `report`, `checkpoint_due`, `checkpoint_interval`, `should_yield`,
`checkpoint_path`, `commit_checkpoint`, `newest_checkpoint`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stowage_worker.checkpoints import checkpoint_path as checkpoint_path
    from stowage_worker.checkpoints import commit_checkpoint as commit_checkpoint
    from stowage_worker.checkpoints import newest_checkpoint as newest_checkpoint
    from stowage_worker.client import checkpoint_due as checkpoint_due
    from stowage_worker.client import checkpoint_interval as checkpoint_interval
    from stowage_worker.client import report as report
    from stowage_worker.client import should_yield as should_yield

_OF = {
    "checkpoint_due": "client",
    "checkpoint_interval": "client",
    "checkpoint_path": "checkpoints",
    "commit_checkpoint": "checkpoints",
    "newest_checkpoint": "checkpoints",
    "report": "client",
    "should_yield": "client",
}


def __getattr__(name: str) -> object:
    """Imported when first used, so that operator and coordinator do not get what is meant for training programs."""
    if name not in _OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_OF[name]}"), name)
