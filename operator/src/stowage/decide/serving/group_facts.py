"""Replicas of several pods as they are: their pods told apart, what broke, and one replica fact for all that decides.

A replica is made anew whole. Which of its pods count is said by its attempt in the status: pods of other attempts are
strays, that have to go. A pod that is missing counts as deleted only once all of them have been there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import GroupReason
from stowage.api.model_service_role import Variant
from stowage.api.model_service_status import GroupStatus, VariantStatus
from stowage.api.names import (
    ATTEMPT_LABEL,
    GANG_GATE,
    GROUP_INDEX_LABEL,
    GROUP_ORDINAL_LABEL,
    TEMPLATE_HASH_LABEL,
)
from stowage.decide.serving.drain import GONE_COST
from stowage.decide.serving.group_children import group_pod_name, template_hash
from stowage.decide.serving.group_nodes import has_to_leave
from stowage.decide.serving.group_parts import OTHERS_SECONDS, Waiting, in_part_since, in_part_words, letting_go
from stowage.decide.serving.service_facts import PodFact, PodRef, fact_of
from stowage.decide.serving.variant_state import MANY_RESTARTS
from stowage_scheduler.cluster import Node, Pod

SETTLED_SECONDS: Final = 600.0
"""A replica that has served for so long begins to count its restarts anew, as kubelets do."""
WAITS: Final = "its pods are placed together, and there is no room for all of them yet"
_NO_NUMBER: Final = -1
_DIGITS: Final = 6

VariantKey = tuple[str, str]
"""Role and variant."""


@dataclass(frozen=True, slots=True)
class MemberFact:
    """One pod of a replica that has several.

    Attributes:
        pod: what is told of any pod of a service.
        ordinal: of the replica, by its label; -1 where that is no number: the pod is a stray.
        attempt: by its label.
        index: by its label.
        template_hash: what it was made from.
        has_ended: it is there, and runs no more.
        is_gated: it waits for its gang.
        has_to_leave: its node is being emptied.
    """

    pod: PodFact
    ordinal: int
    attempt: int
    index: int
    template_hash: str
    has_ended: bool = False
    is_gated: bool = False
    has_to_leave: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica.

    Attributes:
        record: what the status says of it from now on.
        members: its pods of this attempt that are there, by index.
        fact: the replica, as a pod of its own.
    """

    record: GroupStatus
    members: tuple[MemberFact, ...]
    fact: PodFact

    @property
    def gave_up(self) -> bool:
        """Whether it let a part of its pods go, and was not tried again since."""
        return self.record.reason == GroupReason.PLACED_IN_PART and not self.record.whole and not self.members

    @property
    def has_to_leave(self) -> bool:
        """Whether the node of one of its pods is being emptied: with one they all go."""
        return any(one.has_to_leave for one in self.members)


@dataclass(frozen=True, slots=True)
class Groups:
    """All replicas of a service that have several pods.

    Attributes:
        replicas: by role and variant, in order of their ordinals; such as are gone from the spec too.
        strays: pods that count no more.
        attempts: by role, variant and ordinal, the highest attempt that a pod was seen of.
        gated: roles and variants whose pods a PackingPolicy would place.
        failures: by role and variant, the API server's words where it refused a pod.
    """

    replicas: Mapping[VariantKey, tuple[Replica, ...]] = field(default_factory=dict)
    strays: tuple[PodRef, ...] = ()
    attempts: Mapping[tuple[str, str, int], int] = field(default_factory=dict)
    gated: frozenset[VariantKey] = frozenset()
    failures: Mapping[VariantKey, str] = field(default_factory=dict)

    @property
    def facts(self) -> tuple[PodFact, ...]:
        """The replicas, each as one pod."""
        return tuple(one.fact for found in self.replicas.values() for one in found)


def member_of(pod: Pod, node: Node | None = None) -> MemberFact:
    """A pod of a snapshot, whose labels are those of a replica's, and the node where it stands."""
    return MemberFact(
        pod=fact_of(pod),
        ordinal=_number(pod, GROUP_ORDINAL_LABEL),
        attempt=_number(pod, ATTEMPT_LABEL),
        index=_number(pod, GROUP_INDEX_LABEL),
        template_hash=pod.labels.get(TEMPLATE_HASH_LABEL, ""),
        has_ended=pod.finished,
        is_gated=GANG_GATE in pod.gates,
        has_to_leave=has_to_leave(pod, node),
    )


def missing(service: ModelService, members: Iterable[MemberFact]) -> tuple[str, ...]:
    """Names of pods that have been there by the status, and are not seen: deleted, or not told of yet."""
    seen = {one.pod.ref.name for one in members}
    names = (
        group_pod_name(service.name, role.name, variant.name, record.ordinal, record.attempt, index)
        for role in service.status.roles
        for variant in role.variants
        for record in variant.groups
        if record.whole
        for index in range(record.size)
    )
    return tuple(name for name in names if name not in seen)


def groups_of(
    service: ModelService,
    members: Sequence[MemberFact],
    now: float,
    *,
    gated: frozenset[VariantKey] = frozenset(),
    failures: Mapping[VariantKey, str] | None = None,
) -> Groups:
    """All replicas that have several pods, with what becomes of each that broke.

    A variant that the last status does not tell of, or whose replicas are no longer groups, has those whose pods are
    there: they serve on, whoever lost that status.
    """
    by_key: dict[VariantKey, list[MemberFact]] = defaultdict(list)
    for one in members:
        by_key[one.pod.role, one.pod.variant].append(one)
    specs = {(role.name, one.name): one for role in service.spec.roles for one in role.variants if one.group}
    told = {(role.name, one.name): one for role in service.status.roles for one in role.variants}
    replicas: dict[VariantKey, tuple[Replica, ...]] = {}
    strays: list[PodRef] = []
    refused = failures or {}
    for key in dict.fromkeys([*specs, *by_key]):
        own, spec = by_key.get(key, []), specs.get(key)
        records = _records(told.get(key) if spec is not None else None, own, spec)
        form = _Form(service, key, spec, template_hash(spec) if spec is not None else "")
        by_ordinal: dict[int, list[MemberFact]] = defaultdict(list)
        for one in own:
            by_ordinal[one.ordinal].append(one)
        gone = letting_go(_waiting(records, by_ordinal, is_refused=key in refused), now)
        found = [_replica(form, one, by_ordinal[one.ordinal], now, lets_go=one.ordinal in gone) for one in records]
        replicas[key] = tuple(one for one in found if one is not None)
        kept = {one.pod.ref for replica in replicas[key] for one in replica.members}
        ending = {(one.ordinal, one.attempt) for one in own if _ends_requests(one)}
        strays += [
            one.pod.ref
            for one in own
            if one.pod.ref not in kept and not one.pod.is_terminating and (one.ordinal, one.attempt) not in ending
        ]
    attempts: dict[tuple[str, str, int], int] = {}
    for one in members:
        number = (one.pod.role, one.pod.variant, one.ordinal)
        attempts[number] = max(attempts.get(number, 0), one.attempt)
    return Groups(replicas, tuple(strays), attempts, gated, refused)


def _waiting(
    records: Sequence[GroupStatus], members: Mapping[int, Sequence[MemberFact]], *, is_refused: bool
) -> list[Waiting]:
    """Replicas of one variant that wait for nodes; behind a gate nobody holds any meanwhile."""
    found = []
    for record in records:
        own = [one for one in members[record.ordinal] if one.attempt == record.attempt]
        pods = [one.pod for one in own]
        if pods and sum(one.node is not None for one in pods) < record.size and not any(one.is_gated for one in own):
            since = in_part_since(record.size, pods, is_refused=is_refused)
            found.append(Waiting(record.since.timestamp(), record.ordinal, since))
    return found


def _ends_requests(member: MemberFact) -> bool:
    """Whether a first pod that was deleted still ends what it has, for which it needs the others."""
    return member.index == 0 and member.pod.is_terminating and member.pod.is_ready and not member.has_ended


def _records(
    told: VariantStatus | None, members: Sequence[MemberFact], spec: Variant | None
) -> tuple[GroupStatus, ...]:
    if told is not None:
        return tuple(sorted({one.ordinal: one for one in told.groups}.values(), key=lambda one: one.ordinal))
    by_attempt: dict[tuple[int, int], list[MemberFact]] = defaultdict(list)
    for one in members:
        if one.ordinal >= 0:
            by_attempt[one.ordinal, one.attempt].append(one)
    found = []
    for ordinal, attempt in dict(sorted(by_attempt)).items():  # of each ordinal the highest attempt
        own = by_attempt[ordinal, attempt]
        if spec is None and any(one.has_ended or one.pod.is_terminating for one in own):
            continue  # nobody makes it anew
        size = spec.group.size if spec is not None and spec.group is not None else len(own)
        since = instant(min(one.pod.created_at for one in own))
        found.append(GroupStatus(ordinal=ordinal, attempt=attempt, size=size, whole=True, since=since))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Form:
    """What the replicas of one variant have in common; `spec` is None where it is gone from the service's spec."""

    service: ModelService
    key: VariantKey
    spec: Variant | None
    template: str


def _replica(
    form: _Form, record: GroupStatus, members: Sequence[MemberFact], now: float, *, lets_go: bool
) -> Replica | None:
    """The replica as it goes on; None: it broke while it left, and does not come back.

    Args:
        form: of its variant.
        record: by the last status.
        members: pods of its ordinal, whatever their attempt.
        now: the time.
        lets_go: its pods have waited for each other for long enough.
    """
    spec = form.spec
    own = tuple(sorted((one for one in members if one.attempt == record.attempt), key=lambda one: one.index))
    is_half_old = spec is not None and not record.whole and any(one.template_hash != form.template for one in own)
    broken = _broken(record, own)
    if broken is None and lets_go and not is_half_old:
        broken = GroupReason.PLACED_IN_PART, in_part_words(record.size, [one.pod for one in own])
    if broken is not None and any(one.pod.is_draining for one in own if one.index == 0):
        return None
    if spec is not None and spec.group is not None and (broken is not None or is_half_old):
        attempt = 1 + max([record.attempt, *(one.attempt for one in members)])
        size = spec.group.size
        update: dict[str, object] = {"attempt": attempt, "size": size, "whole": False, "container_restarts": None}
        if broken is not None:
            reason, words = broken
            since = instant(float(int(now)))
            update |= {"restarts": record.restarts + 1, "since": since, "reason": reason.value, "message": words}
        record, own = record.model_copy(update=update), ()
    elif spec is not None and spec.group is not None and not record.whole and not own:
        record = record.model_copy(update={"size": spec.group.size})  # it waits to be made, by the template of then
    is_outdated = spec is not None and any(one.template_hash != form.template or one.has_to_leave for one in own)
    fact = _fact(form, record, own, is_outdated=is_outdated)
    return Replica(_gone_on(record, own, fact, now), own, fact)


def _broken(record: GroupStatus, members: Sequence[MemberFact]) -> tuple[GroupReason, str] | None:
    """What made all pods of a replica worthless; None: nothing did."""
    for one in members:
        if one.has_ended:
            return GroupReason.POD_ENDED, f"pod {one.pod.ref.name} has ended"
        if one.pod.is_terminating:
            return GroupReason.POD_DELETED, f"pod {one.pod.ref.name} was deleted"
    if record.whole and len({one.index for one in members}) < record.size:
        there = {one.index for one in members}
        gone = next(index for index in range(record.size) if index not in there)
        return GroupReason.POD_DELETED, f"its pod {gone} is gone"
    if record.container_restarts is not None and _restarts(members) > record.container_restarts:
        again = max(members, key=lambda one: one.pod.restarts)
        return GroupReason.CONTAINER_RESTARTED, f"a container of pod {again.pod.ref.name} began again"
    return None


def _gone_on(record: GroupStatus, members: Sequence[MemberFact], fact: PodFact, now: float) -> GroupStatus:
    update: dict[str, object] = {}
    if not record.whole and len({one.index for one in members}) >= record.size:
        update["whole"] = True
    if fact.is_ready and record.container_restarts is None:
        update["container_restarts"] = _restarts(members)
    if record.restarts and fact.is_ready and fact.ready_at is not None and now - fact.ready_at >= SETTLED_SECONDS:
        update["restarts"] = 0
    return record.model_copy(update=update) if update else record


def _fact(form: _Form, record: GroupStatus, members: Sequence[MemberFact], *, is_outdated: bool) -> PodFact:
    """The replica as one pod: it has a node when all have one, and answers when all are ready.

    Without its first pod nothing can be noted on it, so it counts as one that may go at any time.
    """
    service, key, pods = form.service, form.key, [one.pod for one in members]
    first = next((one.pod for one in members if one.index == 0), None)
    is_all = len(pods) >= record.size
    is_ready = is_all and all(one.is_ready for one in pods)
    is_placed = is_all and all(one.node is not None for one in pods)
    since = record.since.timestamp()
    name = group_pod_name(service.name, *key, record.ordinal, record.attempt, 0)
    trouble = next((one.trouble for one in pods if one.trouble), "")
    gave_up = record.reason == GroupReason.PLACED_IN_PART
    if not trouble and not is_ready and record.restarts >= MANY_RESTARTS and not gave_up:
        trouble = record.reason or ""
    unplaced_since, words = _unplaced(members) if not is_placed else (None, "")
    if gave_up and not is_placed:  # it has been without room for longer than this attempt is old
        unplaced_since, words = since - OTHERS_SECONDS, record.message
    return PodFact(
        ref=first.ref if first is not None else PodRef(service.namespace, name, ""),
        role=key[0],
        variant=key[1],
        created_at=min((one.created_at for one in pods), default=since),
        node=first.node if first is not None and is_placed else None,
        phase="Running" if is_all and all(one.phase == "Running" for one in pods) else "Pending",
        is_ready=is_ready,
        takes_requests=first.takes_requests if first is not None else True,
        is_spare=first.is_spare if first is not None else False,
        draining_since=first.draining_since if first is not None else None,
        scheduled_at=_last([one.scheduled_at for one in pods]) if is_placed else None,
        initialized_at=_last([one.initialized_at for one in pods if one.initialized_at is not None]),
        started_at=_last([one.started_at for one in pods]) if is_all else None,
        ready_at=_last([one.ready_at for one in pods]) if is_ready else None,
        unschedulable_since=unplaced_since,
        unschedulable_message=words,
        trouble=trouble,
        restarts=sum(one.restarts for one in pods),
        deletion_cost=first.deletion_cost if first is not None else GONE_COST,
        gpus=sum(one.gpus for one in pods),
        ordinal=record.ordinal,
        is_outdated=is_outdated,
    )


def _unplaced(members: Sequence[MemberFact]) -> tuple[float | None, str]:
    """Since when a replica has been without all its nodes, and why; behind a gate kube-scheduler does not say."""
    without = [one.pod for one in members if one.pod.unschedulable_since is not None and one.pod.node is None]
    if without:
        oldest = min(without, key=lambda one: one.unschedulable_since or 0.0)
        return oldest.unschedulable_since, oldest.unschedulable_message
    if any(one.is_gated for one in members):
        return max(one.pod.created_at for one in members), WAITS
    return None, ""


def _last(times: Sequence[float | None]) -> float | None:
    known = [one for one in times if one is not None]
    return max(known) if known and len(known) == len(times) else None


def _restarts(members: Sequence[MemberFact]) -> int:
    return sum(one.pod.restarts for one in members)


def _number(pod: Pod, label: str) -> int:
    text = pod.labels.get(label, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else _NO_NUMBER
