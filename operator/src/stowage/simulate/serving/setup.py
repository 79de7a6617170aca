"""What a simulation is run with besides the requests and the policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stowage.decide.serving.performance import Performance


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds from asking for a replica until it serves: normally spread, cut at a tenth of the mean.

    BLIS (inference-sim) uses a mean of 240 s with a deviation of 30 s for loading.
    """

    mean_seconds: float
    deviation_seconds: float = 0.0

    def draw(self, rng: np.random.Generator) -> float:
        """One start."""
        if self.deviation_seconds <= 0.0:
            return self.mean_seconds
        return max(self.mean_seconds / 10.0, float(rng.normal(self.mean_seconds, self.deviation_seconds)))


@dataclass(frozen=True, slots=True)
class ReplicaLoss:
    """At `at_seconds` the oldest `count` ready replicas are gone, with all requests in them; others are asked for."""

    at_seconds: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class MetricsOutage:
    """From `from_seconds` until before `until_seconds` nothing is scraped; views hold the last values."""

    from_seconds: float
    until_seconds: float


@dataclass(frozen=True, slots=True)
class Setup:
    """A role with one kind of replica.

    Attributes:
        performance: of one replica.
        gpus_per_replica: what it costs.
        slo_ttft_seconds: a request attains with a time to first token of at most this
        slo_itl_seconds: and a mean time between tokens of at most this.
        cold_start_seconds: from asking for a replica until it serves; a number or a distribution.
        initial: replicas that serve at second 0.
        bounds: fewest and most replicas.
        scrape_interval_seconds: how often Prometheus looks.
        seed: of cold starts.
        failures: what goes wrong and when.
        drain_limit_seconds: how long after the last arrival the run goes on at most.
        history_seconds: how far back a view's scrapes go.
    """

    performance: Performance
    gpus_per_replica: int
    slo_ttft_seconds: float
    slo_itl_seconds: float
    cold_start_seconds: float | ColdStart = 120.0
    initial: int = 1
    bounds: tuple[int, int] = (1, 1000)
    scrape_interval_seconds: float = 5.0
    seed: int = 0
    failures: tuple[ReplicaLoss | MetricsOutage, ...] = ()
    drain_limit_seconds: float = 900.0
    history_seconds: float = 3600.0

    def __post_init__(self) -> None:
        least, most = self.bounds
        if not 0 <= least <= most or not least <= self.initial <= most:
            raise ValueError(f"initial {self.initial} is not within the bounds {least} to {most}")
        if self.gpus_per_replica < 1 or self.scrape_interval_seconds <= 0:
            raise ValueError("a replica has at least one GPU, and the scrape interval is more than 0")

    @property
    def cold_start(self) -> ColdStart:
        """`cold_start_seconds` as a distribution."""
        given = self.cold_start_seconds
        return given if isinstance(given, ColdStart) else ColdStart(given)
