"""What training programs call: tell progress, ask whether to yield. Costs microseconds and never raises.

Outside a supervisor all calls do nothing. Importing it also lets an exception that ends the program be told with its
type and message (`STOWAGE_ERROR_FILE`). Once a step was told, an interpreter that begins to exit tells phase `Leaving`.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from types import TracebackType
from typing import Callable

from stowage_worker.agreement import HOLD_SECONDS, MAX_PLAN_BYTES, NO_PLAN, Agreement, Plan, plan_of

HOLD_LOOK_SECONDS = 0.01
SAVING = "Saving"
TRAINING = "Training"
LEAVING = "Leaving"
PHASES = ("Initializing", "Compiling", "Training", "Saving", "Restoring", "Evaluating", LEAVING)


class Reporter:
    """Writes one progress file, whole each time: readers see the old one or the new one.

    Args:
        file: its path; empty: nothing is written.
        clock: seconds, for what the program does not tell: the duration of steps, and how long it stood still for a
            checkpoint. That is the time in phase `Saving`, else from the answer that one is due to the next step, less
            the step itself.
    """

    def __init__(self, file: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._file = file
        self._clock = clock
        self._told: dict[str, object] = {}
        self._step_at: tuple[int, float] | None = None
        self._saves_since: float | None = None
        self._save_seconds: float | None = None
        self._awaits_seconds = False
        self._was_asked = False
        self._saves_step = -1
        self._phase_before: object = None
        self._has_saved = False
        self._lock = threading.Lock()

    def tell(self, told: dict[str, object]) -> None:
        """Add to what was told before and write it; never raises."""
        if not self._file:
            return
        try:
            with self._lock:
                before, now = dict(self._told), self._clock()
                was_asked = self._was_asked
                told = self._with_phase(told)
                self._told.update({name: _plain(value) for name, value in told.items() if value is not None})
                self._time_save(before, told, now, was_asked=was_asked)
                if "step" in told and "step_seconds" not in told:
                    self._measure(int(told["step"]), now)  # type: ignore[call-overload]  # what is no number raises
                temporary = f"{self._file}.{os.getpid()}"
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                try:
                    os.write(descriptor, json.dumps(self._told).encode())
                finally:
                    os.close(descriptor)
                os.replace(temporary, self._file)  # noqa: PTH105  quicker
        except Exception:  # noqa: BLE001, S110  a report may never end a training
            pass

    def save_begins(self, step: int) -> None:
        """The program was told that a checkpoint of this step is due.

        It is in phase `Saving` until it tells another one, or steps on.
        """
        with self._lock:
            self._saves_step = step
            self._saves_since, self._has_saved = self._clock(), True
            self._was_asked, self._phase_before = True, self._told.get("phase")
            self._told["phase"] = SAVING
        self.tell({})

    def _with_phase(self, told: dict[str, object]) -> dict[str, object]:
        if not self._was_asked or not ("phase" in told or self._is_next(told)):
            return told
        self._was_asked = False
        return {"phase": self._phase_before or TRAINING, **told}

    def _time_save(self, before: dict[str, object], told: dict[str, object], now: float, *, was_asked: bool) -> None:
        """The seconds of a checkpoint are told with it, or as soon as they are known."""
        seconds = self._saved_within(before.get("phase"), told, now, was_asked=was_asked)
        if seconds is not None:
            self._save_seconds = seconds
        if "checkpoint_seconds" in told:
            self._awaits_seconds, self._save_seconds = False, None
            return
        if self._told.get("checkpoint_step") != before.get("checkpoint_step"):
            self._told.pop("checkpoint_seconds", None)  # that of the one before
            self._awaits_seconds = True
        if self._awaits_seconds and self._save_seconds is not None:
            self._told["checkpoint_seconds"] = self._save_seconds
            self._awaits_seconds, self._save_seconds = False, None

    def _saved_within(self, before: object, told: dict[str, object], now: float, *, was_asked: bool) -> float | None:
        """How long training stood still for the save that is over now; None: none is."""
        phase = told.get("phase", before)
        if phase == SAVING:
            if before != SAVING:
                self._saves_since, self._has_saved = now, True
            return None
        if self._saves_since is None or before != SAVING:
            return None
        seconds, self._saves_since = now - self._saves_since, None
        steps_on = was_asked and ("asked_step" in told or self._is_next(told))
        return max(0.0, seconds - float(str(self._told.get("step_seconds", 0.0)))) if steps_on else seconds

    def _is_next(self, told: dict[str, object]) -> bool:
        """Whether a step was done after those that were told before, or after that of the checkpoint."""
        asked = told.get("asked_step")
        if isinstance(asked, int) and asked > self._saves_step and self._was_asked:
            return True
        return "step" in told and (self._step_at is None or int(told["step"]) > self._step_at[0])  # type: ignore[call-overload]

    def _measure(self, step: int, now: float) -> None:
        if self._step_at is not None and step > self._step_at[0] and not self._has_saved:
            self._told["step_seconds"] = (now - self._step_at[1]) / (step - self._step_at[0])
        if self._step_at is None or step != self._step_at[0]:
            self._step_at = (step, now)
            self._has_saved = False


class Asker:
    """Looks for the supervisor's plan, and tells it what this rank has seen and answered.

    Args:
        file: of the plan; empty: nothing is ever due.
        reporter: for what others have to know.
        clock: seconds.
        wait: sleeps for so many seconds.
    """

    def __init__(
        self,
        file: str,
        reporter: Reporter,
        clock: Callable[[], float] = time.perf_counter,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = file
        self._reporter = reporter
        self._clock = clock
        self._wait = wait
        self._agreement = Agreement()
        self._told: tuple[int, int, bool] = (-1, 0, False)
        self._has_held = False
        self._lock = threading.Lock()

    def plan(self) -> Plan:
        """What the supervisor wrote last."""
        try:
            with open(self._file, "rb") as opened:  # noqa: PTH123  quicker
                return plan_of(opened.read(MAX_PLAN_BYTES))
        except OSError:
            return NO_PLAN

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due at this step."""
        is_due = self._answer(self._agreement.answer, step)
        if is_due:
            self._reporter.save_begins(step)
        return is_due

    def ends(self, step: int) -> bool:
        """Whether the program ends at this step."""
        return self._answer(self._agreement.ends, step)

    def _answer(self, ask: Callable[[Plan, int], bool | None], step: int) -> bool:
        if not self._file:
            return False
        with self._lock:
            deadline = self._clock() + (0.0 if self._has_held else HOLD_SECONDS)
            while (answer := ask(self.plan(), step)) is None and self._clock() < deadline:
                self._tell()
                self._wait(HOLD_LOOK_SECONDS)
            if answer is None:
                self._has_held = True
                self._agreement.give_up(step)
            self._tell()
            return bool(answer)

    def _tell(self) -> None:
        one = self._agreement
        now = (one.asked, one.seen, one.is_late)
        if now != self._told:  # at each step: a rank that is held up right after it could not say so later
            self._told = now
            self._reporter.tell({"asked_step": one.asked, "request": one.seen, "late": one.is_late})


_reporter = Reporter(os.environ.get("STOWAGE_PROGRESS_FILE", ""))
_asker = Asker(os.environ.get("STOWAGE_CHECKPOINT_PLAN_FILE", ""), _reporter)
_yield_file = os.environ.get("STOWAGE_YIELD_FILE", "")
_asks = {"yields": False}
_exit_watched_by = {"pid": 0}


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
        phase: one of `PHASES`. In all but `Training` no step is expected: tell `Leaving` after the last step, before
            results are gathered and written and ranks part. Who comes to the end of the program has told it.
        step_seconds: of the last step; measured between calls when not given.
        wait_seconds: of the last step, spent waiting for other ranks.
        checkpoint_step: of the newest committed checkpoint.
        checkpoint_uri: where it is.
        checkpoint_seconds: how long training stood still for it.
    """
    _reporter.tell({name: value for name, value in locals().items() if value is not None})
    if step is not None and _exit_watched_by["pid"] == 0:
        _exit_watched_by["pid"] = os.getpid()
        atexit.register(_leave)  # as late as this, so that it runs before what frameworks have registered


def _leave() -> None:
    """The interpreter exits. After an exception that nobody caught nothing is told: others may wait for ever."""
    if os.getpid() == _exit_watched_by["pid"] and getattr(sys, "last_value", None) is None:
        _reporter.tell({"phase": LEAVING})


def checkpoint_due(step: int) -> bool:
    """Whether to make a checkpoint at this step: the interval has passed, or the job is about to be stopped.

    True once for each checkpoint, and at the same step on all ranks that ask for the same steps: so all of them may
    save together. A rank that is first at the agreed step waits for the others to have heard of it, up to 10 s.

    Args:
        step: the step just done, as in `report` and in the name of the checkpoint; it only rises.
    """
    return _asker.is_due(step)


def checkpoint_interval() -> float:
    """Seconds between two checkpoints, as the job wants it now; 0: the program's own choice.

    For programs with a schedule of their own. It may change at any time, and ranks may see it change at other steps.
    """
    return _asker.plan().interval_seconds


def should_yield(step: int | None = None) -> bool:
    """Whether to end with code 0 at this step, after a checkpoint: the job changes its size, moves or is suspended.

    Args:
        step: as for `checkpoint_due`, and asked after it: then the answer is true at the same step on all ranks, the
            one of the last checkpoint. Without it the request reaches ranks at different steps: programs with
            collective operations ask on rank 0 and send the answer to all, or all ranks ask and the answers are joined
            (any).
    """
    if not _yield_file:
        return False
    if not _asks["yields"]:
        _asks["yields"] = True
        _reporter.tell({"yields": True})
    if step is not None and _asker.ends(step):
        return True
    return os.path.exists(_yield_file)  # noqa: PTH110  quicker


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
