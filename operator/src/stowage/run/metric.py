"""What a metric is: the words of the catalogue, without any entry."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

PREFIX: Final = "stowage_"
WORK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Process(StrEnum):
    """Who shows a metric."""

    OPERATOR = "operator"
    EXTENDER = "extender"
    ACTIVATOR = "activator"


class Kind(StrEnum):
    """Types of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Unit(StrEnum):
    """What a value counts or measures; base units only."""

    SECONDS = "seconds"
    BYTES = "bytes"
    PODS = "pods"
    PLANS = "plans"
    JOBS = "jobs"
    RANKS = "ranks"
    SERVICES = "services"
    ROLES = "roles"
    REPLICAS = "replicas"
    CONNECTIONS = "connections"
    NODES = "nodes"
    KEYS = "keys"
    OBJECTS = "objects"
    REQUESTS = "requests"
    EVENTS = "events"
    TIMES = "times"  # how often something happened
    PROCESSES = "processes"
    FILES = "files"
    UNIX_TIME = "Unix time"
    BOOLEAN = "0 or 1"
    NUMBER = "number"
    RATIO = "0 to 1"


class Label(Struct, frozen=True):
    """A label.

    `values` is the closed set that its values come from; empty: `open_for` says what bounds them instead. Names of
    pods, nodes, plans or policies are never values: each would be a series of its own for ever.
    """

    name: str
    values: tuple[str, ...] = ()
    open_for: str = ""

    @property
    def closed(self) -> bool:
        """Whether all values are known."""
        return bool(self.values)


class Metric(Struct, frozen=True):
    """One entry of the catalogue; `name` is what stands in queries, but for the series of a histogram.

    `ours` is false for what prometheus_client shows of the process itself.
    """

    name: str
    kind: Kind
    unit: Unit
    text: str
    labels: tuple[Label, ...] = ()
    processes: frozenset[Process] = frozenset({Process.OPERATOR})
    buckets: tuple[float, ...] = ()
    ours: bool = True

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in their order."""
        return tuple(label.name for label in self.labels)

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """The names that stand in queries, each with the labels that Stowage sets."""
        labels = frozenset(self.label_names)
        if self.kind is Kind.HISTOGRAM:
            return {f"{self.name}_bucket": labels | {"le"}, f"{self.name}_sum": labels, f"{self.name}_count": labels}
        return {self.name: labels}


OPERATOR: Final = frozenset({Process.OPERATOR})


def counter(name: str, unit: Unit, text: str, *labels: Label, processes: frozenset[Process] = OPERATOR) -> Metric:
    """A counter of ours."""
    return Metric(f"{PREFIX}{name}_total", Kind.COUNTER, unit, text, labels, processes)


def gauge(name: str, unit: Unit, text: str, *labels: Label, processes: frozenset[Process] = OPERATOR) -> Metric:
    """A gauge of ours."""
    return Metric(f"{PREFIX}{name}", Kind.GAUGE, unit, text, labels, processes)


def histogram(
    name: str,
    text: str,
    *labels: Label,
    processes: frozenset[Process] = OPERATOR,
    buckets: tuple[float, ...] = WORK_SECONDS,
) -> Metric:
    """A histogram of seconds of ours."""
    return Metric(f"{PREFIX}{name}_seconds", Kind.HISTOGRAM, Unit.SECONDS, text, labels, processes, buckets)
