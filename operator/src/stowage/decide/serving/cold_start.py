"""How long replicas take to start, learned from the times that their own pods tell.

Starts are read anew from the pods that run, so a new process knows them at once; those of pods that are gone are
remembered as long as the process lives, and the status keeps what was known of each variant.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from stowage.api.durations import lasting
from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_status import ColdStart, ColdStartPhase, PhaseTime, VariantColdStart
from stowage.decide.serving.role_memory import RoleMemory, Start
from stowage.decide.serving.service_facts import PodFact

DEFAULT_SECONDS: Final = 120.0
"""Before any start has been seen: published starts of 8B to 32B models take 60 to 140 s (llm-d WVA's benchmark)."""
KEPT_STARTS: Final = 20
"""Of each variant, and those of pods that run: one that is forgotten would seem to have just started."""
LONGEST_SECONDS: Final = 3600.0
"""What is taken as the look-ahead at most: a replica that waited for a node for hours says nothing of the next one."""
FAR_LONGER: Final = 3.0
"""Times what nine of ten starts took at most."""
_TAIL: Final = 0.9
_MEDIAN: Final = 0.5


def start_of(pod: PodFact) -> Start | None:
    """How the pod's first start went; None: it is not over, or containers began again and hide it."""
    if not pod.is_ready or pod.ready_at is None or pod.restarts or pod.ready_at <= pod.created_at:
        return None
    phases: list[tuple[str, float]] = []
    at = pod.created_at
    for phase, until in (
        (ColdStartPhase.SCHEDULE, pod.scheduled_at),
        (ColdStartPhase.WEIGHTS, pod.initialized_at),
        (ColdStartPhase.IMAGE, pod.started_at),
        (ColdStartPhase.ENGINE, pod.ready_at),
    ):
        if until is not None and until >= at:
            phases.append((phase.value, until - at))
            at = until
    return Start(pod.ref.uid, pod.variant, pod.ready_at - pod.created_at, tuple(phases))


def phase_of(pod: PodFact) -> ColdStartPhase:
    """What a pod that is not ready is doing, as far as it tells."""
    if pod.node is None:
        return ColdStartPhase.SCHEDULE
    return ColdStartPhase.IMAGE if pod.phase == "Pending" else ColdStartPhase.ENGINE


def with_starts(known: Sequence[Start], pods: Iterable[PodFact]) -> tuple[Start, ...]:
    """The starts known, with those of pods that were not: a pod that is ready anew later has not started again."""
    pods = tuple(pods)
    uids, there = {one.uid for one in known}, {pod.ref.uid for pod in pods}
    fresh = sorted(
        (pod.ready_at or 0.0, pod.ref.uid, start)
        for pod in pods
        if pod.ref.uid not in uids and (start := start_of(pod)) is not None
    )
    found = [*known, *(start for _, _, start in fresh)]
    kept: list[Start] = []
    count: dict[str, int] = {}
    for one in reversed(found):
        count[one.variant] = count.get(one.variant, 0) + 1
        if count[one.variant] <= KEPT_STARTS or one.uid in there:
            kept.append(one)
    return tuple(reversed(kept))


def remembered(known: RoleMemory | None, role: str, pods: Sequence[PodFact], told: ColdStart | None) -> RoleMemory:
    """The memory of a role with the starts of its pods; None: this process looks at the role for the first time."""
    if known is None:
        return RoleMemory(starts=first_starts(role, pods, told))
    return replace(known, starts=with_starts(known.starts, pods))


def first_starts(role: str, pods: Iterable[PodFact], told: ColdStart | None) -> tuple[Start, ...]:
    """The starts of pods that were ready when this process saw them first.

    A pod tells when it last became ready: one that was not for a moment, after hours, seems to have started for hours.
    What is far longer than all that the status tells of its variant counts as that.

    Args:
        role: of the pods.
        pods: of one role.
        told: by the last status.
    """
    before = _told_seconds(role, told)
    found = []
    for one in with_starts((), pods):
        usual = before.get(one.variant, math.inf)
        found.append(one if one.seconds <= FAR_LONGER * usual else replace(one, seconds=usual, phases=()))
    return tuple(found)


def expected_seconds(role: str, variants: Iterable[str], starts: Sequence[Start], told: ColdStart | None) -> float:
    """What a new replica of the role is expected to take: the p90 of the variant that takes longest.

    Args:
        role: its name.
        variants: of which the next replica may be.
        starts: of the role.
        told: by the last status; for variants of which no start is known now.
    """
    before = _told_seconds(role, told)
    found: list[float] = []
    for name in variants:
        seconds = [one.seconds for one in starts if one.variant == name]
        if seconds:
            found.append(quantile(seconds, _TAIL))
        elif name in before:
            found.append(before[name])
    return min(LONGEST_SECONDS, max(found)) if found else DEFAULT_SECONDS


def _told_seconds(role: str, told: ColdStart | None) -> Mapping[str, float]:
    return {one.variant: one.p90.seconds for one in told.variants if one.role == role} if told is not None else {}


def of_variants(starts: Sequence[Start], names: Collection[str]) -> tuple[Start, ...]:
    """Those of the variants with these names."""
    return tuple(one for one in starts if one.variant in names)


def still_asked_for(spec: ModelServiceSpec, told: ColdStart | None) -> ColdStart | None:
    """What was told without variants that are gone from the spec: a status has room for those of one spec alone."""
    if told is None:
        return None
    asked = {(role.name, one.name) for role in spec.roles for one in role.variants}
    kept = tuple(one for one in told.variants if (one.role, one.variant) in asked)
    return told.model_copy(update={"variants": kept})


def cold_start_status(
    starts: Sequence[tuple[str, Sequence[Start]]], told: ColdStart | None, pods: Iterable[PodFact], now: float
) -> ColdStart | None:
    """What the status tells of starts; None: nothing is known yet.

    Args:
        starts: (role, its starts).
        told: by the last status; what it says of variants of which nothing is known now stays.
        pods: of the service, for the time that they have been useful.
        now: the time.
    """
    every = [one for _, of_role in starts for one in of_role]
    if not every:
        return told
    variants = [
        _of_variant(role, name, [one.seconds for one in of_role if one.variant == name])
        for role, of_role in starts
        for name in dict.fromkeys(one.variant for one in of_role)
    ]
    fresh = {(one.role, one.variant) for one in variants}
    if told is not None:
        variants += [one for one in told.variants if (one.role, one.variant) not in fresh]
    seconds = [one.seconds for one in every]
    by_uid = {one.uid: one.seconds for one in every}
    running = [(now - pod.ready_at, by_uid[pod.ref.uid]) for pod in pods if pod.ready_at and pod.ref.uid in by_uid]
    useful, cold = sum(max(0.0, one) for one, _ in running), sum(one for _, one in running)
    phases = {name for one in every for name, _ in one.phases}
    return ColdStart(
        p50=lasting(quantile(seconds, _MEDIAN)),
        p90=lasting(quantile(seconds, _TAIL)),
        samples=len(seconds),
        useful_seconds_per_cold_start_second=f"{useful / cold:.1f}" if cold > 0 else None,
        phases=tuple(_of_phase(one, every) for one in ColdStartPhase if one.value in phases),
        variants=tuple(variants),
    )


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of `values` that is not less than a share `q` of them."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def _of_variant(role: str, variant: str, seconds: Sequence[float]) -> VariantColdStart:
    return VariantColdStart(
        role=role,
        variant=variant,
        p50=lasting(quantile(seconds, _MEDIAN)),
        p90=lasting(quantile(seconds, _TAIL)),
        samples=len(seconds),
    )


def _of_phase(phase: ColdStartPhase, starts: Sequence[Start]) -> PhaseTime:
    seconds = [found for one in starts for name, found in one.phases if name == phase.value]
    return PhaseTime(phase=phase, p50=lasting(quantile(seconds, _MEDIAN)), p90=lasting(quantile(seconds, _TAIL)))
