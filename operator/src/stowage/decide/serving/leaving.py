"""Which replicas of a service leave, all its roles and variants together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from stowage.api.model_service import ModelService
from stowage.decide.serving.children import selector_text
from stowage.decide.serving.drain import Change, Fleet, Samples, change
from stowage.decide.serving.needed_roles import needed_roles
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.variant_state import VariantState

_UNKNOWN: Final = Samples({}, {}, 0.0)


class Leaving:
    """Who leaves, role by role: no more of those that answer than a role has beyond what it shall have.

    So replicas that only move to another variant, or whose variant is gone from the spec, stay until others answer.
    Where the first role was renamed, those of the old name stay until the new one answers in full, prefill and decode
    both, and a step longer: the Service is turned over first.

    Args:
        pods: of the service.
        desired: by role of its spec, in its order, replicas that it shall have.
        samples: by role, what is known of requests.
        free_gpus: by node.
        stood_in: a role that answered so far, and is not the first one any more; empty: none.
        deadline_seconds: for how long a replica may take to end its requests.
        now: the time.

    Attributes:
        stands_in: the role that goes on to do so; empty: the first role answers itself.
    """

    def __init__(
        self,
        pods: Sequence[PodFact],
        desired: Mapping[str, int],
        samples: Mapping[str, Samples],
        free_gpus: Mapping[str, int],
        *,
        stood_in: str,
        deadline_seconds: float,
        now: float,
    ) -> None:
        answering = Counter(one.role for one in pods if one.is_ready and one.takes_requests and not one.is_terminating)
        self._desired = desired
        there = (one for one in pods if not (one.is_terminating or one.is_spare))
        self._there = Counter(one.role for one in there if one.is_ready or one.is_draining)
        self._beyond = {name: max(0, answering[name] - count) for name, count in desired.items()}
        self._is_handed_over = not answering[stood_in]
        is_short = any(answering[name] < desired[name] for name in needed_roles(desired))
        self.stands_in = stood_in if answering[stood_in] and is_short else ""
        self._samples = samples
        self._free_gpus = free_gpus
        self._deadline_seconds = deadline_seconds
        self._now = now
        self.changes: list[Change] = []

    def of(self, role: str, state: VariantState, target: int, spares: int = 0) -> int:
        """What the Deployment of a variant shall ask for, to have `target` replicas that serve, and spares.

        A Deployment in the middle of a roll-out takes from old and new ReplicaSets as it likes. Where the roll-out is
        stuck and no new pod ever answered, it takes old ones, and from them those that were asked to leave.
        """
        found, pods = state.deployment, state.pods
        if found is None or found.replicas_manager:
            may_shrink = False
        elif found.is_stalled and not found.is_settled:
            pods = tuple(one for one in pods if one.is_ready)
            may_shrink = len({one.template for one in pods}) == 1
        else:
            may_shrink = found.is_settled
        return self._change(role, target, Fleet(state.replicas, pods, may_shrink, self._beyond[role]), spares)

    def is_complete(self, role: str) -> bool:
        """Whether a role has as many replicas as it shall have, those included that leave."""
        return self._there[role] >= self._desired[role]

    def of_groups(
        self, role: str, replicas: Sequence[PodFact], target: int, spares: int = 0, *, alone: bool = False
    ) -> int:
        """How many of these replicas, of several pods each, there shall be, for `target` that serve, and spares.

        With `alone` one may leave although no other answers in its place.
        """
        return self._change(role, target, Fleet(len(replicas), replicas, may_leave=self._beyond[role] + alone), spares)

    def left_over(self, pods: Sequence[PodFact]) -> int:
        """How many replicas of a variant that is gone from the spec are still needed."""
        role = pods[0].role if pods else ""
        may_leave = self._beyond.get(role, None if self._is_handed_over else 0)
        return self._change(role, 0, Fleet(len(pods), pods, may_leave=may_leave))

    def _change(self, role: str, target: int, fleet: Fleet, spares: int = 0) -> int:
        step = change(
            target,
            fleet,
            self._samples.get(role, _UNKNOWN),
            deadline_seconds=self._deadline_seconds,
            now=self._now,
            free_gpus=self._free_gpus,
            spares=spares,
        )
        self.changes.append(_of_those_there(step))
        if role in self._beyond:
            leaves = {*step.drain, *step.spare}
            begun = sum(one.is_ready and one.takes_requests and one.ref in leaves for one in fleet.pods)
            self._beyond[role] = max(0, self._beyond[role] - begun)
        return step.replicas


def _of_those_there(step: Change) -> Change:
    """Without replicas whose first pod is not there: nothing can be noted on it."""
    return replace(
        step,
        drain=tuple(one for one in step.drain if one.uid),
        undrain=tuple(one for one in step.undrain if one.uid),
        cost={ref: cost for ref, cost in step.cost.items() if ref.uid},
        spare=tuple(one for one in step.spare if one.uid),
        unspare=tuple(one for one in step.unspare if one.uid),
    )


def stood_in(service: ModelService, pods: Sequence[PodFact]) -> str:
    """The role that the status names as the one that answers, where another one is the first now; empty: none."""
    others = {one.role for one in pods} - {service.spec.roles[0].name}
    return next((one for one in others if selector_text(service.name, one) == service.status.selector), "")
