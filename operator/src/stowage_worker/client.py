"""What training programs call: tell progress, ask whether to yield. Costs microseconds and never raises.

Outside a supervisor all calls do nothing. Importing it also lets an exception that ends the program be told with its
type and message (`STOWAGE_ERROR_FILE`).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from types import TracebackType
from typing import Callable

PHASES = ("Initializing", "Compiling", "Training", "Saving", "Restoring", "Evaluating")


class Reporter:
    """Writes one progress file, whole each time: readers see the old one or the new one.

    Args:
        file: its path; empty: nothing is written.
        clock: seconds, for the duration of steps that the program does not tell.
    """

    def __init__(self, file: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._file = file
        self._clock = clock
        self._told: dict[str, object] = {}
        self._step_at: tuple[int, float] | None = None
        self._lock = threading.Lock()

    def tell(self, told: dict[str, object]) -> None:
        """Add to what was told before and write it; never raises."""
        if not self._file:
            return
        try:
            with self._lock:
                self._told.update({name: _plain(value) for name, value in told.items() if value is not None})
                if "step" in told and "step_seconds" not in told:
                    self._measure(int(told["step"]))  # type: ignore[call-overload]  # what is no number raises
                temporary = f"{self._file}.{os.getpid()}"
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                try:
                    os.write(descriptor, json.dumps(self._told).encode())
                finally:
                    os.close(descriptor)
                os.replace(temporary, self._file)  # noqa: PTH105  quicker
        except Exception:  # noqa: BLE001, S110  a report may never end a training
            pass

    def _measure(self, step: int) -> None:
        now = self._clock()
        if self._step_at is not None and step > self._step_at[0]:
            self._told["step_seconds"] = (now - self._step_at[1]) / (step - self._step_at[0])
        if self._step_at is None or step != self._step_at[0]:
            self._step_at = (step, now)


_reporter = Reporter(os.environ.get("STOWAGE_PROGRESS_FILE", ""))
_yield_file = os.environ.get("STOWAGE_YIELD_FILE", "")
_checkpoint_file = os.environ.get("STOWAGE_CHECKPOINT_REQUEST_FILE", "")
_asks = {"yields": False, "checkpoint": 0}


def report(
    *,
    step: int | None = None,
    tokens: int | None = None,
    loss: float | None = None,
    phase: str | None = None,
    step_seconds: float | None = None,
    wait_seconds: float | None = None,
    checkpoint_step: int | None = None,
    checkpoint_uri: str | None = None,
    checkpoint_seconds: float | None = None,
) -> None:
    """Tell how far this rank is; what is not given stays as told before.

    Args:
        step: finished optimizer steps, or the number of the step just done; it has only to rise.
        tokens: taken by this rank since the job began.
        loss: of the last step; NaN and infinite ones are noticed.
        phase: one of `PHASES`. In all but `Training` no step is expected.
        step_seconds: of the last step; measured between calls when not given.
        wait_seconds: of the last step, spent waiting for other ranks.
        checkpoint_step: of the newest committed checkpoint.
        checkpoint_uri: where it is.
        checkpoint_seconds: how long training stood still for it.
    """
    _reporter.tell({name: value for name, value in locals().items() if value is not None})


def should_yield() -> bool:
    """Whether to make a checkpoint and end with code 0 at this step: the job changes its size or moves.

    The request reaches ranks at different steps. Programs with collective operations ask on rank 0 and send the answer
    to all with the step, or all ranks ask and the answers are joined (any).
    """
    if not _yield_file:
        return False
    if not _asks["yields"]:
        _asks["yields"] = True
        _reporter.tell({"yields": True})
    return os.path.exists(_yield_file)  # noqa: PTH110  quicker


def should_checkpoint() -> bool:
    """Whether a checkpoint was asked for since the last call that said so; the same care as for `should_yield`."""
    if not _checkpoint_file:
        return False
    try:
        changed = os.stat(_checkpoint_file).st_mtime_ns  # noqa: PTH116  quicker
    except OSError:
        return False
    if changed == _asks["checkpoint"]:
        return False
    _asks["checkpoint"] = changed
    return True


def _plain(value: object) -> object:
    """Numbers of numpy, torch and JAX as Python's."""
    return value if isinstance(value, (str, bool, int, float)) else float(value)  # type: ignore[arg-type]


def write_error(file: str, kind: type[BaseException], error: BaseException) -> None:
    """The error file of this rank: type and message; never raises."""
    try:
        text = json.dumps({"type": kind.__name__, "message": str(error)[:2000]})
        with open(f"{file}.{os.getpid()}", "w") as opened:  # noqa: PTH123  needs no further import
            opened.write(text)
        os.replace(f"{file}.{os.getpid()}", file)  # noqa: PTH105
    except Exception:  # noqa: BLE001, S110  the program's own exception matters
        pass


def _watch_exceptions(file: str, process: int) -> None:
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() == process and issubclass(kind, Exception):
            write_error(file, kind, error)
        before(kind, error, trace)

    sys.excepthook = hook


if os.environ.get("STOWAGE_ERROR_FILE"):
    _watch_exceptions(os.environ["STOWAGE_ERROR_FILE"], os.getpid())
