"""What becomes of replicas that have several pods: which stay, which go, which are made, and in which order.

It stands in for the controllers that Deployments have: numbers come from the same decisions, drains are the same, and
a new template is rolled out by one replica more at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Role, Variant
from stowage.api.model_service_status import GroupStatus
from stowage.decide.serving.group_children import GroupPod
from stowage.decide.serving.group_facts import Groups, Replica, VariantKey
from stowage.decide.serving.group_parts import spread
from stowage.decide.serving.leaving import Leaving
from stowage.decide.serving.service_facts import PodFact, PodRef
from stowage.decide.serving.variant_state import VariantState, is_stuck
from stowage.decide.serving.victims import controllers_class

FIRST_WAIT_SECONDS: Final = 10.0
"""Before a replica is made anew for the second time in a row; the first time it is at once, then it doubles …"""
LONGEST_WAIT_SECONDS: Final = 300.0
"""… up to this."""


@dataclass(frozen=True, slots=True)
class GroupWork:
    """Pods to make and pods to delete."""

    create: tuple[GroupPod, ...] = ()
    delete: tuple[PodRef, ...] = ()


def wait_seconds(restarts: int) -> float:
    """From the decision to make a replica anew until its pods are made, after so many times in a row."""
    if restarts <= 1:
        return 0.0
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(restarts - 2, 10))


class GroupPlans:
    """Collects what becomes of all groups of a service in one step.

    Args:
        service: whose.
        groups: as they are.
        leaving: who leaves, of all replicas of the service.
        now: the time.

    Attributes:
        records: by role and variant of the spec, what the status says of replicas from now on.
    """

    def __init__(self, service: ModelService, groups: Groups, leaving: Leaving, now: float) -> None:
        self._service = service
        self._groups = groups
        self._leaving = leaving
        self._now = now
        self._create: list[GroupPod] = []
        self._delete: list[PodRef] = list(groups.strays)
        self.records: dict[VariantKey, tuple[GroupStatus, ...]] = {}

    def of(self, role: Role, state: VariantState, target: int, spares: int = 0, *, singles: int = 0) -> None:
        """Bring a variant to `target` serving replicas, and spares beside them; in a roll-out there are none.

        Args:
            role: of the variant.
            state: of it.
            target: replicas that serve.
            spares: beside them.
            singles: replicas of one pod that it had before, and that do not leave yet: the change is a roll-out too.
        """
        key = (role.name, state.name)
        there = self._groups.replicas.get(key, ())
        old = [one for one in there if one.fact.is_outdated]
        new = [one for one in there if not one.fact.is_outdated]
        kept: list[Replica] = []
        if old:
            kept += self._replaced(role.name, old, new, _old_ones(target, old, new))
        before = len(old) + singles
        warm = 0 if before else spares
        wanted = _new_ones(target + warm, before, len(new))
        kept += self._shrunk(role.name, new, wanted - warm, warm)
        records = [one.record for one in kept]
        gave_up = sorted((one for one in kept if one.gave_up), key=lambda one: (one.record.since, one.record.ordinal))
        for one in kept:
            if not one.gave_up:
                self._complete(role, state.spec, one)
        if gave_up and all(one.gave_up or one.fact.node is not None for one in kept):
            self._try_again(role, state.spec, gave_up[0], gave_up[-1].record.since.timestamp())
        for ordinal in _free(records, wanted - len(new)):
            record = self._fresh(key, state.spec, ordinal)
            records.append(record)
            self._make(role, state.spec, record, range(record.size))
        self.records[key] = tuple(sorted(records, key=lambda one: one.ordinal))

    def left_over(self) -> None:
        """Replicas of variants that are gone from the spec, or that are no groups any more, leave."""
        specs = {(role.name, one.name) for role in self._service.spec.roles for one in role.variants if one.group}
        for key, there in self._groups.replicas.items():
            if key not in specs and there:
                needed = self._leaving.left_over([one.fact for one in there])
                self._let_go(there, needed)

    @property
    def work(self) -> GroupWork:
        """What has to be done."""
        return GroupWork(tuple(self._create), tuple(self._delete))

    def _replaced(self, role: str, old: Sequence[Replica], new: Sequence[Replica], target: int) -> list[Replica]:
        """Old replicas, of which so many are still needed; those whose nodes are being emptied leave first.

        One of them leaves without another one where there is no room for that.
        """
        moved = [one for one in old if one.has_to_leave]
        others = [one for one in old if not one.has_to_leave]
        needed = max(0, target - len(others))
        alone = any(is_stuck(one.fact, self._now) for one in new) and self._leaving.is_complete(role)
        kept = self._shrunk(role, moved, max(0, needed - alone), alone=alone) if moved else []
        return [*kept, *self._shrunk(role, others, target - needed)] if others else kept

    def _shrunk(
        self, role: str, replicas: Sequence[Replica], target: int, spares: int = 0, *, alone: bool = False
    ) -> list[Replica]:
        count = self._leaving.of_groups(role, [one.fact for one in replicas], target, spares, alone=alone)
        return self._let_go(replicas, count)

    def _let_go(self, replicas: Sequence[Replica], count: int) -> list[Replica]:
        """The replicas that stay; the others go, in the order in which a ReplicaSet controller would take them."""
        order = sorted(replicas, key=lambda one: _leaves_first(one.fact))
        gone, kept = order[: max(0, len(order) - count)], order[max(0, len(order) - count) :]
        self._delete += [member.pod.ref for one in gone for member in one.members if not member.pod.is_terminating]
        return kept

    def _complete(self, role: Role, variant: Variant, replica: Replica) -> None:
        """Make the pods that have not been there yet."""
        record = replica.record
        if record.whole or self._now < record.since.timestamp() + wait_seconds(record.restarts):
            return
        there = {one.index for one in replica.members}
        self._make(role, variant, record, [index for index in range(record.size) if index not in there])

    def _try_again(self, role: Role, variant: Variant, replica: Replica, since: float) -> None:
        """Make the pods of one that gave up, once what was let go last, at `since`, is free, and others have it."""
        record = replica.record
        name = f"{self._service.key}/{role.name}/{variant.name}"
        if self._now >= since + wait_seconds(record.restarts + 2) * spread(name):
            self._make(role, variant, record, range(record.size))

    def _fresh(self, key: VariantKey, variant: Variant, ordinal: int) -> GroupStatus:
        before = self._groups.attempts.get((*key, ordinal))
        size = variant.group.size if variant.group is not None else 1
        since = instant(float(int(self._now)))
        return GroupStatus(ordinal=ordinal, attempt=0 if before is None else before + 1, size=size, since=since)

    def _make(self, role: Role, variant: Variant, record: GroupStatus, indices: Sequence[int]) -> None:
        self._create += [GroupPod(role, variant, record.ordinal, record.attempt, index) for index in indices]


def _old_ones(target: int, old: Sequence[Replica], new: Sequence[Replica]) -> int:
    """How many of an older template are still needed: each goes when one of the new template answers.

    Such as can not start, have no room, or begin on a node that is being emptied, are no loss.
    """
    answering = sum(one.fact.is_ready and one.fact.takes_requests for one in new)
    broken = sum(not one.fact.is_ready and _is_no_loss(one) for one in old)
    return max(0, min(target - answering, len(old) - broken))


def _is_no_loss(replica: Replica) -> bool:
    never_answered = replica.record.container_restarts is None
    no_use = bool(replica.fact.trouble) or replica.fact.node is None
    return no_use or (replica.has_to_leave and never_answered)


def _new_ones(target: int, old: int, new: int) -> int:
    """How many of the newest template there shall be: beside older ones, one more than asked for in all."""
    return target if not old else min(target, max(new, target + 1 - old))


def _free(records: Sequence[GroupStatus], count: int) -> list[int]:
    """The lowest free ordinals."""
    taken = {one.ordinal for one in records}
    free = (one for one in range(len(taken) + max(0, count)) if one not in taken)
    return [next(free) for _ in range(max(0, count))]


def _leaves_first(fact: PodFact) -> tuple[object, ...]:
    return *controllers_class(fact), fact.deletion_cost or 0, -fact.created_at
