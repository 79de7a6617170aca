"""Which parts of a ModelService's status only show how it is: they may be told late, so that a status rests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stowage.api.model_service_status import ModelServiceStatus

TIMES_SECONDS: Final = 300.0
"""Where nothing but times is new, it is told after so long."""
NUMBERS_SECONDS: Final = 30.0
"""Measured numbers, and words that hold some, are told after so long."""
_OF_THE_SPEC: Final = "Accepted"  # its words hold no measured numbers, and whoever mends a spec waits for them
_TIMES_OF_DECISIONS: Final = {"at", "valid_until"}
_SHOWN_OF_DECISIONS: Final = {*_TIMES_OF_DECISIONS, "inputs", "message", "recommendations"}


def told_after_seconds(before: ModelServiceStatus, after: ModelServiceStatus) -> float:
    """How long after the last write a status may be written: 0 where more than what only shows is new."""
    if _said(before) != _said(after):
        return 0.0
    return NUMBERS_SECONDS if _timeless(before) != _timeless(after) else TIMES_SECONDS


def _said(status: ModelServiceStatus) -> Mapping[str, Any]:
    """What users and programs act on."""
    found = _timeless(status)
    for one in found["decisions"]:
        for name in _SHOWN_OF_DECISIONS:
            one.pop(name, None)
    for one in (*found["roles"], *found["conditions"]):
        if one.get("type") != _OF_THE_SPEC:
            one["message"] = ""
    return {**found, "slo": None, "cold_start": None, "message": ""}


def _timeless(status: ModelServiceStatus) -> dict[str, Any]:
    found: dict[str, Any] = status.model_dump()
    for one in found["decisions"]:
        for name in _TIMES_OF_DECISIONS:
            one.pop(name, None)
    if found["slo"] is not None:
        found["slo"]["at"] = None
    if found["cold_start"] is not None:
        found["cold_start"]["useful_seconds_per_cold_start_second"] = None
    return {**found, "last_signal_at": None}
