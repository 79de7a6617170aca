"""What a pass over a service asks of its signals."""

from __future__ import annotations

from typing import Protocol

from stowage.api.model_service import ModelService
from stowage.decide.serving.request_sizes import Lengths
from stowage.decide.serving.service_facts import PodFact
from stowage.run.serving_look import Look, ServingPod


class Signals(Protocol):
    """What `ServingSignals` does for a pass."""

    async def look(
        self,
        service: ModelService,
        role: str,
        pods: tuple[ServingPod, ...],
        desired: int,
        cold_start_seconds: float,
        now: float,
        *,
        kv_tokens: int = 0,
    ) -> Look:
        """What the signals of one role say now."""

    async def lengths(self, service: ModelService, role: str) -> tuple[Lengths | None, Lengths | None]:
        """How long prompts and outputs were lately."""

    def forget(self, service_uid: str) -> None:
        """The service is gone."""

    def clear(self) -> None:
        """Somebody else leads."""


def serving_pod(pod: PodFact) -> ServingPod:
    """A pod, as signals are asked with it."""
    return ServingPod(pod.ref.name, pod.ref.uid, pod.is_ready, not pod.takes_requests, pod.created_at, pod.ready_at)
