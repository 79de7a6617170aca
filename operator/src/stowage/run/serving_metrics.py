"""What the statuses of ModelServices show as metrics: numbers of all services together, and what each write adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from stowage.api.model_service_reasons import ScalingReason, ServiceReason
from stowage.api.model_service_status import ModelServiceStatus
from stowage.decide.serving.service_facts import PodFact
from stowage.run.metrics import Metrics
from stowage.run.serving_catalogue import QUANTILES, Direction, ReplicaState


class _Shown(Struct, frozen=True):
    """What one service adds to the gauges; times in seconds since 1970."""

    reasons: tuple[str, ...]
    roles: tuple[str, ...]
    replicas: Mapping[str, int]
    signal_at: float | None
    attainment: float | None
    cold_start: tuple[float, ...]
    """Of `QUANTILES`; empty: not known."""
    cached_nodes: int = 0


_UNREADABLE: Final = _Shown((ServiceReason.INVALID_SPEC.value,), (), dict.fromkeys(ReplicaState, 0), None, None, ())


class ServingMetrics:
    """Numbers of the services.

    Args:
        metrics: of the process.
        term: epoch of the lease while this process leads, else nought; a standby shows nought, for what it knew is old,
            and who leads again begins anew.
        clock: seconds since 1970.
    """

    def __init__(self, metrics: Metrics, term: Callable[[], int], clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._term = term
        self._known_in = 0
        self._clock = clock
        self._services: dict[str, _Shown] = {}
        self._draining: dict[str, dict[str, float]] = {}  # by key, then by UID of a pod: since when
        for reason in ServiceReason:
            self._follow_condition(reason)
        for why in ScalingReason:
            self._follow_role(why)
        for state in ReplicaState:
            self._follow_replicas(state)
        for place, quantile in enumerate(QUANTILES):
            self._follow_cold_start(place, quantile)
        metrics.serving_signal_age_seconds.set_function(self._signal_age)
        metrics.serving_attainment_ratio.set_function(self._attainment)
        metrics.serving_cached_nodes.set_function(
            lambda: self._count(one.cached_nodes for one in self._known().values())
        )

    def looked(self, key: str, status: ModelServiceStatus, pods: Iterable[PodFact], now: float) -> None:
        """A service was looked at: how it is, and its pods."""
        self._known()[key] = _shown(status)
        self._drains(key, pods, now)

    def unreadable(self, key: str) -> None:
        """A service can not be used as it is written: nobody knows how it is, and it counts by that alone."""
        self._known()[key] = _UNREADABLE
        self._draining.pop(key, None)

    def wrote(self, before: ModelServiceStatus, after: ModelServiceStatus) -> None:
        """A status was written: count the decisions that it has more."""
        known = {(one.at, one.role) for one in before.decisions}
        for one in after.decisions:
            if (one.at, one.role) in known or one.from_ == one.to:
                continue
            direction = Direction.UP if one.to > one.from_ else Direction.DOWN
            self._metrics.serving_decisions.labels(ScalingReason(one.reason).value, direction.value).inc()

    def gone(self, key: str) -> None:
        """The service was deleted."""
        self._services.pop(key, None)
        self._draining.pop(key, None)

    def _drains(self, key: str, pods: Iterable[PodFact], now: float) -> None:
        before, after = self._draining.get(key, {}), {}
        there = {pod.ref.uid: pod for pod in pods}
        for uid, pod in there.items():
            if pod.is_draining and not pod.is_terminating:
                after[uid] = before.get(uid, pod.draining_since or now)
        for uid, since in before.items():
            if uid not in there or there[uid].is_terminating:
                self._metrics.serving_drain_seconds.observe(max(0.0, now - since))
        self._draining[key] = after

    def _follow_condition(self, reason: ServiceReason) -> None:
        gauge = self._metrics.serving_services.labels(reason.value)
        gauge.set_function(lambda: self._count(reason.value in one.reasons for one in self._known().values()))

    def _follow_role(self, why: ScalingReason) -> None:
        gauge = self._metrics.serving_roles.labels(why.value)
        gauge.set_function(lambda: self._count(one.roles.count(why.value) for one in self._known().values()))

    def _follow_replicas(self, state: ReplicaState) -> None:
        gauge = self._metrics.serving_replicas.labels(state.value)
        gauge.set_function(lambda: self._count(one.replicas[state.value] for one in self._known().values()))

    def _follow_cold_start(self, place: int, quantile: str) -> None:
        gauge = self._metrics.serving_cold_start_seconds.labels(quantile)
        gauge.set_function(
            lambda: self._led(
                max((one.cold_start[place] for one in self._known().values() if one.cold_start), default=0.0)
            )
        )

    def _signal_age(self) -> float:
        oldest = min((one.signal_at for one in self._known().values() if one.signal_at is not None), default=None)
        return self._led(max(0.0, self._clock() - oldest) if oldest is not None else 0.0)

    def _attainment(self) -> float:
        found = (one.attainment for one in self._known().values() if one.attainment is not None)
        return min(found, default=1.0) if self._term() else 1.0

    def _count(self, numbers: Iterable[int]) -> float:
        return self._led(float(sum(numbers)))

    def _led(self, number: float) -> float:
        return number if self._term() else 0.0

    def _known(self) -> dict[str, _Shown]:
        """The services of this term."""
        term = self._term()
        if term and term != self._known_in:
            self._services.clear()
            self._draining.clear()
            self._known_in = term
        return self._services


def _shown(status: ModelServiceStatus) -> _Shown:
    counts: Counter[str] = Counter()
    for role in status.roles:
        counts.update({state.value: getattr(role, state.value) for state in ReplicaState})
    start = status.cold_start
    return _Shown(
        reasons=tuple(one.reason for one in status.conditions),
        roles=tuple(role.reason for role in status.roles if role.reason is not None),
        replicas={state.value: counts[state.value] for state in ReplicaState},
        signal_at=status.last_signal_at.timestamp() if status.last_signal_at is not None else None,
        attainment=float(status.slo.attainment) if status.slo is not None and status.slo.attainment else None,
        cold_start=(start.p50.seconds, start.p90.seconds) if start is not None else (0.0, 0.0),
        cached_nodes=sum(role.cached_nodes for role in status.roles),
    )
