"""Prefetch pods of services: which ones there shall be, and making and deleting them. Nothing else waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stowage.act.serving import create_prefetch_pod, delete_service_pod
from stowage.api.model_service import ModelService
from stowage.decide.serving.prefetch import PrefetchStep, is_prefetch_pod, prefetch_step
from stowage.observe.store import Store
from stowage.transport import Api, Forbidden, Invalid
from stowage_scheduler.cluster import Pod

REFUSED_SECONDS: Final = 300.0
"""After a refusal, by a quota or a rule of the namespace, no pod is asked for during so long."""
NOTHING: Final = PrefetchStep()


class ServingPrefetch:
    """Prefetch pods of all services. What it remembers are refusals, which cost a request to learn again.

    Args:
        api: the connection.
        store: facts of the cluster.
        clock: seconds since 1970.
    """

    def __init__(self, api: Api, store: Store, clock: Callable[[], float]) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._steps: dict[str, PrefetchStep] = {}
        self._refused: dict[str, tuple[float, str]] = {}  # by key: when, and the API server's words

    def look(self, service: ModelService, own: Sequence[Pod]) -> PrefetchStep:
        """What there is to do; `own` are all pods with the service's name in their label."""
        is_wanted = any(role.warm.nodes for role in service.spec.roles)
        if not is_wanted and not any(is_prefetch_pod(service, one) for one in own):
            self.forget(service.key)
            return NOTHING
        step = prefetch_step(service, own, self._store.nodes, self._store.pods.values(), self._clock())
        self._steps[service.key] = step
        if not step.create:
            self._refused.pop(service.key, None)
        return step

    async def act(self, service: ModelService, leads: Callable[[], bool]) -> tuple[str, ...]:
        """Do what was found by the last look; returns what is refused, in the API server's words, the first of a kind.

        Raises:
            ApiError: the API server does not answer.
        """
        step = self._steps.get(service.key, NOTHING)
        stays: list[str] = []
        for pod in step.delete:
            if not leads():
                return ()
            try:
                await delete_service_pod(self._api, pod)
            except (Invalid, Forbidden) as error:
                stays.append(f"prefetch pod {pod.name}: {error.message or error}")
        refused = tuple(stays[:1])
        since, words = self._refused.get(service.key, (float("-inf"), ""))
        if self._clock() - since < REFUSED_SECONDS:
            return (*refused, words)
        for document in step.create:
            if not leads():
                break
            try:
                await create_prefetch_pod(self._api, document)
            except (Invalid, Forbidden) as error:
                words = f"prefetch pod {document['metadata']['name']}: {error.message or error}"
                self._refused[service.key] = self._clock(), words
                return (*refused, words)
        return refused

    def forget(self, key: str) -> None:
        """The service is gone, or has no such pods."""
        self._steps.pop(key, None)
        self._refused.pop(key, None)

    def clear(self) -> None:
        """Somebody else leads: what is known will be old."""
        self._steps.clear()
        self._refused.clear()
