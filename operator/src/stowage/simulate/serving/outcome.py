"""What became of the requests, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stowage.simulate.serving.requests import Floats, Requests

COMPLETED: Final = 1
REJECTED: Final = 2
UNFINISHED: Final = 0


@dataclass(frozen=True, slots=True)
class ReplicaLife:
    """When a replica was asked for, served first (None: never), began to drain and was gone; seconds.

    Replicas that stand at the end of the run have `gone_at` there and no `drained_at`.
    """

    name: str
    asked_at: float
    ready_at: float | None
    drained_at: float | None
    gone_at: float


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A policy asked for another number of replicas."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one policy.

    Attributes:
        policy: its name.
        requests: what arrived.
        status: per request `COMPLETED`, `REJECTED` (too long for a replica, or lost with one) or `UNFINISHED`.
        ttft_seconds: per request from arrival to first token; NaN: none came.
        itl_seconds: per request the mean time between its tokens; 0 with a single token, NaN unless completed.
        waited_seconds: per request from arrival to first token, or to the end of the run where none came.
        slo_ttft_seconds: what was asked for
        slo_itl_seconds: of each request.
        gpus_per_replica: what a replica costs.
        lives: all replicas that were ever asked for.
        scale_events: changes of the number asked for.
        end_seconds: when the run ended.
        preemptions: sequences that lost their place in a KV cache and were computed again.
    """

    policy: str
    requests: Requests
    status: NDArray[np.int8]
    ttft_seconds: Floats
    itl_seconds: Floats
    waited_seconds: Floats
    slo_ttft_seconds: float
    slo_itl_seconds: float
    gpus_per_replica: int
    lives: tuple[ReplicaLife, ...]
    scale_events: tuple[ScaleEvent, ...]
    end_seconds: float
    preemptions: int = 0

    @property
    def attained(self) -> NDArray[np.bool_]:
        """Per request whether it was completed within both targets."""
        done: NDArray[np.bool_] = self.status == COMPLETED
        with np.errstate(invalid="ignore"):
            done &= self.ttft_seconds <= self.slo_ttft_seconds
            done &= self.itl_seconds <= self.slo_itl_seconds
        return done

    @property
    def attainment(self) -> float:
        """Share of all requests that arrived; 1 where none did."""
        return float(self.attained.mean()) if len(self.requests) else 1.0

    @property
    def completed(self) -> int:
        """Requests that got all their tokens."""
        return int((self.status == COMPLETED).sum())

    @property
    def rejected(self) -> int:
        """Requests that were refused or lost."""
        return int((self.status == REJECTED).sum())

    @property
    def unfinished(self) -> int:
        """Requests that had not got all their tokens when the run ended."""
        return int((self.status == UNFINISHED).sum())

    @property
    def gpu_hours(self) -> float:
        """GPUs of each replica from when it was asked for until it was gone.

        After the last arrival nothing is asked for any more: each replica counts until it has no request left, which
        is its `gone_at`, and one that still starts until the last arrival.
        """
        held = sum(life.gone_at - life.asked_at for life in self.lives)
        return self.gpus_per_replica * held / 3600.0

    @property
    def starting_gpu_hours(self) -> float:
        """Of `gpu_hours`, those of replicas before they served: the waste of cold starts."""
        held = sum((life.gone_at if life.ready_at is None else life.ready_at) - life.asked_at for life in self.lives)
        return self.gpus_per_replica * held / 3600.0

    def ttft_quantile(self, q: float) -> float:
        """Of the requests that were not rejected; one without a first token counts with how long it waited."""
        return _quantile(self.waited_seconds[self.status != REJECTED], q)

    def itl_quantile(self, q: float) -> float:
        """Of the means of completed requests with more than one token."""
        return _quantile(self.itl_seconds[(self.status == COMPLETED) & (self.requests.output_tokens > 1)], q)


def _quantile(values: Floats, q: float) -> float:
    return float(np.quantile(values, q)) if len(values) else 0.0
