"""Who takes requests while there is no replica: what is known of a service's activator, and when it answers.

The Service under the service's own name leads to the replicas while some are ready, and else to the activator, which
hands requests on to the Service of the first role. So it is turned over before the last replica leaves, and back once
a new one has been seen ready for a while: between the two either way leads to an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.needed_roles import needed_roles
from stowage.decide.serving.service_facts import PodFact

HEARD_SECONDS: Final = 45.0
"""An activator that has not been heard for longer may hold requests that nobody knows of."""
TURNED_OVER_SECONDS: Final = 5.0
"""Until all proxies have learnt where a Service leads to …"""
SETTLED_SECONDS: Final = 2.0
"""… and until whoever tells them has seen a pod that is ready."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a service's activator; `Held()` knows nothing. Times are seconds since 1970.

    Attributes:
        is_ready: a pod of it is.
        waiting: requests that wait for a replica, in all of its pods.
        running: requests that replicas work on, through it.
        idle_since: when the last request left it; None: none has come since it was started, or nothing is known.
        heard_at: when it was heard last, the pod that has been silent for longest; None: never.
        leads_since: since when the Service under the service's own name has led to it; None: it does not, or this
            process has not turned it over.
    """

    is_ready: bool = False
    waiting: int = 0
    running: int = 0
    idle_since: float | None = None
    heard_at: float | None = None
    leads_since: float | None = None

    def stands_by(self, now: float) -> bool:
        """Whether it can take requests, and what it has is known."""
        return self.is_ready and self.heard_at is not None and now - self.heard_at <= HEARD_SECONDS

    def has_taken_over(self, now: float) -> bool:
        """Whether new requests come to it by now."""
        return self.leads_since is not None and now - self.leads_since >= TURNED_OVER_SECONDS

    def idle_at(self, since: float | None) -> float | None:
        """Since when nothing is asked for, where replicas have had nothing to do `since` then."""
        if since is None or self.waiting + self.running > 0:
            return None
        return since if self.idle_since is None else max(since, self.idle_since)


def leads_to_activator(
    spec: ModelServiceSpec, pods: Sequence[PodFact], reason: ScalingReason, now: float, *, led_before: bool
) -> bool:
    """Whether the Service under the service's own name shall lead to the activator.

    Args:
        spec: of the service.
        pods: of it.
        reason: of the decision about the first role.
        now: the time.
        led_before: it does so already, as far as is known.
    """
    if spec.scaling.scale_to_zero is None or spec.replicas == 0:
        return False
    if reason is ScalingReason.IDLE:
        return True
    settled = SETTLED_SECONDS if led_before else 0.0
    needed = needed_roles([one.name for one in spec.roles])
    return not all(_has_replica(one, pods, now - settled) for one in needed)


def _has_replica(role: str, pods: Sequence[PodFact], until: float) -> bool:
    return any(
        one.role == role
        and one.is_ready
        and one.takes_requests
        and not one.is_terminating
        and (one.ready_at is None or one.ready_at <= until)
        for one in pods
    )
