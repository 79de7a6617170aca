"""How a variant shrinks without a request lost: replicas leave the Services, end what they have, and then go.

The state is in the pods: a label keeps Services away, an annotation says since when, and the deletion cost makes the
ReplicaSet controller remove exactly those. A count is lowered only once pods are seen with label and cost, so that the
controller can have seen them too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stowage.decide.serving.service_facts import PodFact, PodRef
from stowage.decide.serving.victims import controllers_class, in_order_of_leaving
from stowage.decide.serving.warm_spares import divide

ENDPOINTS_SECONDS: Final = 5.0
"""Proxies may still send requests for so long after the label is gone."""
CLOCKS_SECONDS: Final = 60.0
"""By so much the clocks of two leaders may differ."""
LEAVING_COST: Final = -1000
GONE_COST: Final = -2000
"""Of replicas that have ended all they had: lower than of those that still answer."""
SPARE_COST: Final = -500
"""Of spares: a roll-out takes them before replicas that have requests."""
_OWN_COSTS: Final = frozenset({LEAVING_COST, GONE_COST, SPARE_COST})


@dataclass(frozen=True, slots=True)
class Samples:
    """What is known of requests in replicas.

    Attributes:
        requests: by pod, those that run and wait in its newest sample, where that is fresh.
        sampled_at: by pod, the time of that sample; a pod may be missing.
        stale_after_seconds: no sample in `requests` is older.
    """

    requests: Mapping[str, int]
    sampled_at: Mapping[str, float]
    stale_after_seconds: float

    def is_empty(self, pod: PodFact, since: float, now: float) -> bool:
        """Whether the pod is known to have had no request at a time later than `since`."""
        if self.requests.get(pod.ref.name) != 0:
            return False
        return self.sampled_at.get(pod.ref.name, now - self.stale_after_seconds) > since


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas of one variant.

    Attributes:
        replicas: that its Deployment asks for now.
        pods: that are there; such as have been deleted are not.
        may_shrink: whether its controller would remove those that are chosen: not in the middle of a roll-out.
        may_leave: of those that answer, how many may begin to leave now; None: any. What replaces them has to answer
            first, where a role only moves from one variant to another.
    """

    replicas: int
    pods: Sequence[PodFact]
    may_shrink: bool = True
    may_leave: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a variant: replicas that its Deployment shall ask for, and pods that leave or come back.

    `spare` are pods that become spares, `unspare` such as are none any more; `undrain` take requests from now on, and
    `cost` holds only those whose cost changes; 0: none any more.
    """

    replicas: int
    drain: tuple[PodRef, ...]
    undrain: tuple[PodRef, ...]
    cost: Mapping[PodRef, int]
    spare: tuple[PodRef, ...] = ()
    unspare: tuple[PodRef, ...] = ()


def change(
    target: int,
    fleet: Fleet,
    samples: Samples,
    *,
    deadline_seconds: float,
    now: float,
    free_gpus: Mapping[str, int] | None = None,
    spares: int = 0,
) -> Change:
    """The way to `target` serving replicas, and `spares` beside them that take no requests.

    More are there at once, and whoever drains comes back first. Fewer leave one by one as their last requests end, or
    `deadline_seconds` after they were asked to; replicas that were not made yet, or do not answer, go first.
    """
    pods = in_order_of_leaving(fleet.pods, samples.requests, free_gpus or {})
    there = max(fleet.replicas, len(pods))
    total = target + spares
    surplus = max(0, there - total)
    not_made = there - len(pods)
    leaving = pods[: max(0, surplus - not_made)]
    if not fleet.may_shrink or total >= fleet.replicas:  # pods beyond that number are a roll-out's, or go already
        leaving = tuple(one for one in leaving if one.is_draining)
    if fleet.may_leave is not None:
        stay = {one.ref for one in [one for one in leaving if _answers(one)][fleet.may_leave :]}
        leaving = tuple(one for one in leaving if one.ref not in stay)
    done = {one.ref for one in leaving if _is_done(one, samples, deadline_seconds, now)}
    cost = {one.ref: GONE_COST if one.ref in done else LEAVING_COST for one in leaving}
    gone = sorted(leaving, key=lambda one: (controllers_class(one), one.ref not in done))
    going = list(itertools.takewhile(lambda one: one.ref in done and one.deletion_cost == GONE_COST, gone))
    replicas = max(total, there - min(not_made, surplus) - len(going))
    if total < fleet.replicas:
        replicas = min(replicas, fleet.replicas) if fleet.may_shrink else fleet.replicas
    else:
        replicas = total
    may_stop = None if fleet.may_leave is None else fleet.may_leave - sum(_answers(one) for one in leaving)
    staying = [one for one in pods if one.ref not in cost]
    kept = divide(staying, target, spares, may_stop)
    serve, spare = {one.ref for one in kept.serve}, {one.ref for one in kept.spare}
    undrain = [
        one for one in staying if one.ref not in spare and (one.is_draining or (one.is_spare and one.ref in serve))
    ]
    returns = {one.ref for one in undrain}
    cost |= {one.ref: SPARE_COST for one in staying if one.ref in spare or (one.is_spare and one.ref not in returns)}
    return Change(
        replicas=replicas,
        drain=tuple(one.ref for one in leaving if not one.is_draining or _since(one, now) is None),
        undrain=tuple(one.ref for one in undrain),
        cost={
            **{one.ref: cost[one.ref] for one in pods if one.ref in cost and one.deletion_cost != cost[one.ref]},
            **{one.ref: 0 for one in pods if one.ref not in cost and one.deletion_cost in _OWN_COSTS},
        },
        spare=tuple(one.ref for one in kept.spare if not one.is_spare),
        unspare=tuple(one.ref for one in (*leaving, *undrain) if one.is_spare),
    )


def _since(pod: PodFact, now: float) -> float | None:
    """Since when a pod drains; None: nobody knows, or what is told is still to come, and would never be over."""
    since = pod.draining_since
    return None if since is None or since > now + CLOCKS_SECONDS else since


def _answers(pod: PodFact) -> bool:
    return pod.is_ready and pod.takes_requests


def _is_done(pod: PodFact, samples: Samples, deadline_seconds: float, now: float) -> bool:
    """Whether a pod that leaves has nothing left to end, or no time left."""
    has_requests = samples.requests.get(pod.ref.name, 0) > 0
    # one that answered when it was asked to leave may only fail its probe, with requests that nobody tells of
    may_work = pod.is_draining and pod.deletion_cost == LEAVING_COST and pod.phase == "Running" and not pod.trouble
    is_told = pod.ref.name in samples.requests
    if not pod.is_ready and not has_requests and (is_told or not may_work):
        return True
    since = _since(pod, now)
    if not pod.is_draining or since is None:
        return False
    if now - since >= deadline_seconds:
        return True
    return samples.is_empty(pod, since + ENDPOINTS_SECONDS, now)
