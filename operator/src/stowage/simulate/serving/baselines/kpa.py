"""Knative's pod autoscaler (KPA): mean concurrency over a stable and a panic window, at the defaults of its ConfigMap.

Every 2 s: stable = ceil(mean over 60 s / target), panic = ceil(mean over 6 s / target), both within [ready / 2,
ready * 1000]. Panic begins where the panic count reaches 200 % of the ready pods, lasts until 60 s after it last did,
and never goes down. The target is 70 % of what a pod can take. A new autoscaler over more than one pod begins in
panic. Source: `pkg/autoscaler/scaling/autoscaler.go` of knative/serving.
"""

from __future__ import annotations

import math

from stowage.decide.serving.view import View

TICK_SECONDS = 2.0
STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
PANIC_THRESHOLD = 2.0
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0
TARGET_UTILISATION = 0.7


class Kpa:
    """`concurrency` is how many requests a pod can take at once; 70 % of it is aimed at."""

    name = "kpa"
    interval_seconds = TICK_SECONDS

    def __init__(self, concurrency: float) -> None:
        self._target = concurrency * TARGET_UTILISATION
        self._panic_at: float | None = None
        self._most_in_panic = 0
        self._began = False

    def decide(self, view: View) -> int:
        """Replicas wanted now; without any sample in a window those asked for stay."""
        ready = sum(one.is_ready for one in view.replicas)
        if not self._began:
            self._began, self._most_in_panic = True, ready
            self._panic_at = view.now if ready > 1 else None
        stable, panic = _in_flight(view, STABLE_SECONDS), _in_flight(view, PANIC_SECONDS)
        if stable is None or panic is None:
            return view.desired
        pods = max(1, ready)
        wanted_stable, wanted_panic = math.ceil(stable / self._target), math.ceil(panic / self._target)
        self._enter_or_leave_panic(view.now, is_over=wanted_panic / pods >= PANIC_THRESHOLD)
        wanted = _within_rates(wanted_stable, pods)
        if self._panic_at is None:
            return wanted
        self._most_in_panic = max(self._most_in_panic, wanted, _within_rates(wanted_panic, pods))
        return self._most_in_panic

    def _enter_or_leave_panic(self, now: float, *, is_over: bool) -> None:
        if is_over:
            self._panic_at = now
        elif self._panic_at is not None and self._panic_at + STABLE_SECONDS < now:
            self._panic_at, self._most_in_panic = None, 0


def _in_flight(view: View, window_seconds: float) -> float | None:
    waiting, running = view.mean("waiting", window_seconds), view.mean("running", window_seconds)
    return None if waiting is None or running is None else waiting + running


def _within_rates(wanted: int, pods: int) -> int:
    return min(max(wanted, math.floor(pods / MAX_DOWN_RATE)), math.ceil(pods * MAX_UP_RATE))
