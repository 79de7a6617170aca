"""PromQL rules of admins: for which job a series speaks, and since when a rule has held for it.

A rule is asked once for all jobs. Which job a series is about its labels say: the namespace must always be among them,
with either the job's name or a pod's. So a series can never speak for a job of another namespace than its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct

from stowage.api.training_job import TrainingJob
from stowage.decide.samples import Sample
from stowage.decide.training.children import seat_pod_name

JOB_SERIES_LABEL: Final = "stowage_dev_job"
"""The label `stowage.dev/job` of pods, as service discovery writes it."""
GAP_STEPS: Final = 1.5
"""Between two samples of a history that still follow each other."""

Subject = tuple[str, str]
"""What a series is about: a namespace, and the name of a job or of a pod in it."""


class PromqlRule(Struct, frozen=True):
    """One rule of the operator's settings.

    Attributes:
        name: by which jobs speak of it.
        query: PromQL; it holds for what it returns, as in an alerting rule of Prometheus.
        endpoint: name of the server that is asked.
        for_seconds: so long it must hold until it fires.
        every_seconds: how often it is asked.
        namespaces: whose jobs may use it; empty: all.
        namespace_label: label that names the namespace.
        name_label: label that names the job or the pod.
        of_pods: whether that is a pod: then a rule of a job can replace it alone.
    """

    name: str
    query: str
    endpoint: str = "default"
    for_seconds: float = 0.0
    every_seconds: float = 15.0
    namespaces: frozenset[str] = frozenset()
    namespace_label: str = "namespace"
    name_label: str = JOB_SERIES_LABEL
    of_pods: bool = False

    @property
    def question(self) -> str:
        """What is asked: one series for each job or pod, so that nobody's many series make the answer too large."""
        return f"max by ({self.namespace_label}, {self.name_label}) (\n{self.query}\n)"

    def serves(self, namespace: str) -> bool:
        """Whether jobs of a namespace may use it."""
        return not self.namespaces or namespace in self.namespaces


class Hold(Struct, frozen=True):
    """Since when a rule has held for something, seconds since 1970, and the number that it returned last."""

    since: float
    value: float


class Firing(Struct, frozen=True):
    """A rule that has held for a job for as long as it has to.

    Attributes:
        rule: its name.
        since: when it began to hold, seconds since 1970.
        at: when it had held for so long.
        value: what the query returned last.
        pod: name of the pod that it is about; None: the whole job.
    """

    rule: str
    since: float
    at: float
    value: float
    pod: str | None = None


class Queried(Struct, frozen=True):
    """What the rules that one job names say.

    Attributes:
        firing: those that fire.
        unknown: names that the settings do not have, or not for this namespace.
        silent: names of those that had no answer for long.
    """

    firing: tuple[Firing, ...] = ()
    unknown: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def subjects_of(rule: PromqlRule, job: TrainingJob) -> tuple[Subject, ...]:
    """What series of a rule may be about, so that they concern a job."""
    if not rule.serves(job.namespace):
        return ()
    if not rule.of_pods:
        return ((job.namespace, job.name),)
    return tuple((job.namespace, seat_pod_name(job.name, one.seat, one.attempt)) for one in job.status.seats)


def held(
    rule: PromqlRule,
    samples: Iterable[Sample],
    before: Mapping[Subject, Hold],
    wanted: Collection[Subject],
    now: float,
) -> dict[Subject, Hold]:
    """For what of `wanted` a rule holds now, and since when.

    A number that is none is no evidence: it is what a division by nothing gives, not what a rule found.

    Args:
        rule: which rule.
        samples: the answer to its query.
        before: what this function returned for the answer before.
        wanted: of all other series nothing is remembered: their number is not ours to bound.
        now: time of the answer, seconds since 1970.
    """
    found: dict[Subject, Hold] = {}
    for sample in samples:
        subject = _subject(rule, sample)
        if subject is None or subject not in wanted:
            continue
        earlier, same = before.get(subject), found.get(subject)
        value = sample.value if same is None else max(sample.value, same.value)
        found[subject] = Hold(earlier.since if earlier is not None else now, value)
    return found


def held_in_the_past(
    rule: PromqlRule, history: Iterable[Sample], wanted: Collection[Subject], end: float, step_seconds: float
) -> dict[Subject, Hold]:
    """The same from the answer to a range query: a rule has held since the first sample after the last gap.

    Args:
        rule: which rule.
        history: every `step_seconds`, up to `end`.
        wanted: as in `held`.
        end: the last time that was asked for, seconds since 1970.
        step_seconds: between two evaluations.
    """
    times: dict[Subject, dict[float, float]] = {}
    for sample in history:
        subject = _subject(rule, sample)
        if subject is not None and subject in wanted:
            times.setdefault(subject, {})[sample.at] = sample.value
    found = {}
    for subject, values in times.items():
        ordered = sorted(values, reverse=True)
        if end - ordered[0] > GAP_STEPS * step_seconds:
            continue
        since = ordered[0]
        for at in ordered[1:]:
            if since - at > GAP_STEPS * step_seconds:
                break
            since = at
        found[subject] = Hold(since, values[ordered[0]])
    return found


def firing_of(
    rule: PromqlRule, holds: Mapping[Subject, Hold], subjects: Iterable[Subject], now: float
) -> tuple[Firing, ...]:
    """What of a job a rule fires for.

    Args:
        rule: which rule.
        holds: what it holds for.
        subjects: the job's, see `subjects_of`.
        now: seconds since 1970.
    """
    found = []
    for subject in subjects:
        hold = holds.get(subject)
        if hold is not None and now - hold.since >= rule.for_seconds:
            pod = subject[1] if rule.of_pods else None
            found.append(Firing(rule.name, hold.since, hold.since + rule.for_seconds, hold.value, pod))
    return tuple(found)


def _subject(rule: PromqlRule, sample: Sample) -> Subject | None:
    """Whom a series is about; None where it does not say so, or is no number."""
    namespace, name = sample.labels.get(rule.namespace_label), sample.labels.get(rule.name_label)
    if not namespace or not name or math.isnan(sample.value):
        return None
    return namespace, name
