"""Asking for the eviction of a pod."""

from __future__ import annotations

from stowage.act.answers import RETRY_SECONDS, Answer, Reply, reply_to
from stowage.transport import Api, ApiError, Conflict, NotFound, TooManyRequests, paths
from stowage_scheduler.packing import PodRef

_TWO_BUDGETS = "more than one PodDisruptionBudget"  # the only way in which the 500 of an eviction tells its cause


async def evict(api: Api, pod: PodRef) -> Reply:
    """Ask for the eviction of exactly this pod (policy/v1), never of a successor with its name."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": pod.namespace, "name": pod.name},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
    try:
        await api.create(paths.eviction(pod.namespace, pod.name), body)
    except NotFound as error:
        return Reply(Answer.GONE, error.message)
    except Conflict as error:
        other = pod.uid in error.message or "UID" in error.message
        return Reply(Answer.GONE if other else Answer.THROTTLED, error.message)
    except TooManyRequests as error:
        if not error.by_disruption_budget:
            return reply_to(error)
        return Reply(Answer.BLOCKED_BY_BUDGET, error.message, error.retry_after_seconds or RETRY_SECONDS)
    except ApiError as error:
        return Reply(Answer.REFUSED, error.message) if _TWO_BUDGETS in error.message else reply_to(error)
    return Reply(Answer.EVICTED)
