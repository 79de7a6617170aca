"""Replicas of several pods, of all services: seen as they are, and carried out as was decided."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from stowage.act.policies import list_policies
from stowage.act.serving_groups import create_pod, delete_pod, is_there
from stowage.api.model_service import ModelService
from stowage.api.model_service_role import Variant
from stowage.api.names import GROUP_INDEX_LABEL, SERVICE_LABEL
from stowage.api.packing_policy import PackingPolicy
from stowage.decide.coverage import covers
from stowage.decide.serving.children import labels_of
from stowage.decide.serving.group_children import GroupPod, group_pod, group_templates
from stowage.decide.serving.group_facts import Groups, VariantKey, groups_of, member_of, missing
from stowage.decide.serving.group_step import GroupWork
from stowage.observe.store import Store
from stowage.run.open_gates import OpenGates
from stowage.transport import Api, Forbidden, Invalid
from stowage_scheduler.cluster import Pod

POLICIES_SECONDS: Final = 10.0
WRITES_AT_ONCE: Final = 16


class ServingGroups:
    """What it remembers saves requests: a new process does without.

    Args:
        api: the connection.
        store: facts of the cluster.
        clock: seconds since 1970.
    """

    def __init__(self, api: Api, store: Store, clock: Callable[[], float]) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._gates = OpenGates(api=api, clock=clock)
        self._policies: tuple[PackingPolicy, ...] = ()
        self._policies_at: float | None = None
        self._failures: dict[str, dict[VariantKey, str]] = {}  # by key of the service
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    async def seen(self, service: ModelService, pods: Sequence[Pod], now: float) -> Groups | None:
        """The service's replicas that have several pods; None: the store is behind, and has to be asked again.

        A pod that the status speaks of and the store has not would look like one that was deleted.
        """
        nodes = self._store.nodes
        members = [member_of(one, nodes.get(one.node or "")) for one in pods if is_member(service, one)]
        for name in missing(service, members):
            if await is_there(self._api, service, name):
                return None
        variants = _variants(service)
        if not variants:
            return groups_of(service, members, now)
        if self._policies_at is None or now - self._policies_at >= POLICIES_SECONDS:
            self._policies, self._policies_at = await list_policies(self._api), now
        gated = frozenset(key for key, one in variants.items() if self._is_covered(service, key, one))
        return groups_of(service, members, now, gated=gated, failures=self._failures.get(service.key))

    async def carry_out(self, service: ModelService, work: GroupWork, groups: Groups, pods: Sequence[Pod]) -> None:
        """Delete, then make, and open gates that nobody else would open.

        Raises:
            ChildTaken: another pod has the name of one.
            ApiError: the API server does not answer, or lets a pod not be deleted, which keeps nothing else back.
        """
        kept: Invalid | Forbidden | None = None
        try:
            await self._all(partial(delete_pod, self._api, one) for one in work.delete)
        except (Invalid, Forbidden) as error:
            kept = error
        failures: dict[VariantKey, str] = {}
        await self._all(partial(self._make, service, one, groups, failures) for one in work.create)
        self._failures[service.key] = failures
        variants = _variants(service)
        planned = all(self._is_covered(service, key, one, paused=True) for key, one in variants.items())
        await self._gates.carry_out(service.key, [one for one in pods if is_member(service, one)], planned=planned)
        if kept is not None:
            raise kept

    def forget(self, key: str) -> None:
        """The service is gone: its pods are the garbage collector's."""
        self._failures.pop(key, None)
        self._gates.forget(key)

    def clear(self) -> None:
        """Somebody else leads: what is remembered will be old."""
        self._failures.clear()
        self._policies_at = None

    async def _make(
        self, service: ModelService, pod: GroupPod, groups: Groups, failures: dict[VariantKey, str]
    ) -> None:
        key = (pod.role.name, pod.variant.name)
        try:
            await create_pod(self._api, service, group_pod(service, pod, gated=key in groups.gated))
        except (Invalid, Forbidden) as error:
            failures[key] = error.message or str(error)

    def _is_covered(self, service: ModelService, key: VariantKey, variant: Variant, *, paused: bool = False) -> bool:
        namespace = self._store.namespaces.get(service.namespace)
        labels_of_namespace: Mapping[str, str] = namespace.labels if namespace is not None else {}
        own = labels_of(service, key[0])
        return all(
            covers(
                self._policies,
                one.spec.scheduler_name,
                {**one.metadata.labels, **own},
                labels_of_namespace,
                paused=paused,
            )
            for one in group_templates(variant)
        )

    async def _all(self, actions: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Some at once; the first error is raised when all have ended."""

        async def one(action: Callable[[], Awaitable[None]]) -> None:
            async with self._writes:
                await action()

        results = await asyncio.gather(*(one(action) for action in actions), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def is_member(service: ModelService, pod: Pod) -> bool:
    """Whether a pod is one of several that a replica of this service has."""
    labels = pod.labels
    return (
        labels.get(SERVICE_LABEL) == service.name
        and GROUP_INDEX_LABEL in labels
        and pod.owner is not None
        and pod.owner.uid == service.metadata.uid
    )


def _variants(service: ModelService) -> dict[VariantKey, Variant]:
    return {(role.name, one.name): one for role in service.spec.roles for one in role.variants if one.group is not None}
