"""What the extender follows: pods and PackingPlans, put into the reservation table as they change."""

from __future__ import annotations

import logging
from collections.abc import Callable

from stowage.observe.reflector import Event, ObjectKey, Present, Refused
from stowage.run.extender_plans import SeenPlan
from stowage_scheduler.cluster import Pod
from stowage_scheduler.kept_empty import KEPT_EMPTY_SECONDS
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.reservations import Reservations

logger = logging.getLogger(__name__)


def read_pod(raw: bytes) -> Pod:
    """Read a pod as the operator does, so that both see the same class.

    Raises:
        MalformedObject: the pod makes no sense.
    """
    fact = fact_of(decode_object("Pod", raw))
    if not isinstance(fact, Pod):
        raise TypeError(f"the fact of a pod is a {type(fact).__name__}")
    return fact


class Feed:
    """Puts changes of pods and plans into the table.

    Args:
        table: the reservation table.
        on_active: called with the name of a plan each time it is seen active.
        now: wall clock, seconds since the epoch.
    """

    def __init__(self, table: Reservations, on_active: Callable[[str], None], now: Callable[[], float]) -> None:
        self._table = table
        self._now = now
        self._on_active = on_active
        self._pod_uids: dict[ObjectKey, str] = {}
        self._plans: dict[str, SeenPlan] = {}

    def plan(self, name: str) -> SeenPlan | None:
        """The plan of that name, if it exists."""
        return self._plans.get(name)

    def on_pod(self, event: Event[Pod]) -> None:
        """Take one change of a pod."""
        uid = event.fact.uid if isinstance(event, Present) else None
        before = self._pod_uids.pop(event.key, None)
        if before is not None and before != uid:  # gone, or another pod has its name now
            self._table.pod_gone(before)
        match event:
            case Present(fact=pod):
                self._pod_uids[event.key] = pod.uid
                self._table.pod_seen(pod)
            case Refused(rejected=rejected):
                logger.warning("Pod %s is left out: %s: %s", event.key, rejected.field, rejected.rule)

    def on_plan(self, event: Event[SeenPlan]) -> None:
        """Take one change of a plan."""
        name = event.key.name
        before = self._plans.pop(name, None)
        now = event.fact if isinstance(event, Present) else None
        if (
            before is not None
            and before.active
            and (now is None or not now.active or now.slots.uid != before.slots.uid)
        ):
            self._table.plan_gone(before.slots.uid)
            logger.info("plan %s is over: its slots are given up", name, extra={"plan": name})
        if isinstance(event, Refused):
            logger.warning("PackingPlan %s is left out: %s: %s", name, event.rejected.field, event.rejected.rule)
        if before is not None and before.emptied_at is not None:
            self._table.kept_empty.forget(before.slots.uid)
        if now is None:
            return
        self._plans[name] = now
        if now.emptied_at is not None:
            left = KEPT_EMPTY_SECONDS - (self._now() - now.emptied_at)
            self._table.kept_empty.keep(now.slots.uid, now.slots.closed, left)
        if now.active:
            if before is None or not before.active:
                logger.info("plan %s is active: keeping %d slots", name, len(now.slots.slots), extra={"plan": name})
            self._table.plan_seen(now.slots)
            self._on_active(name)
