"""A plan as an execution reads it: plain values, cut loose from the form of the custom resource."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from stowage.api.packing_plan import Approval, PlanSteering
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage_scheduler.packing import PodRef, Step
from stowage_scheduler.slots import Slot
from stowage_scheduler.unavailable import MaxUnavailable

RETRY_SECONDS = 5.0  # between two requests for one eviction, when the server does not say


class StepStatus(Struct, frozen=True):
    """What is known of a step; `at` is when state or reason last changed, seconds since the epoch."""

    state: StepState = StepState.WAITING
    reason: StepReason | None = None
    at: float | None = None


class SlotStatus(Struct, frozen=True):
    """What is known of a slot; `pod` is the one that fills it, or that an open slot is promised to."""

    state: SlotState = SlotState.OPEN
    pod: PodRef | None = None


class PlanFacts(Struct, frozen=True):
    """Spec and status of one plan. Times are seconds since the epoch."""

    name: str
    uid: str
    policy: str
    approval: Approval
    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    created_at: float
    policy_uid: str = ""
    steering: PlanSteering = PlanSteering.EXTENDER
    phase: PlanPhase | None = None  # None: nothing has been written yet
    reason: PlanReason | None = None
    message: str = ""
    epoch: int = 0
    approved_at: float | None = None
    started_at: float | None = None
    step_status: Mapping[str, StepStatus] = field(default_factory=dict)
    slot_status: Mapping[str, SlotStatus] = field(default_factory=dict)
    unready_at_start: int | None = None  # pods of the controllers that it touches
    empties: tuple[str, ...] = ()  # of a consolidation: the nodes that it is for
    named: Mapping[str, str] = field(default_factory=dict)  # UIDs on record of pods in temporary places, by step
    observed_by: tuple[str, ...] = ()  # holders of extenders that know this plan by its UID

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to the plan any more."""
        return self.phase is not None and self.phase.ended

    def status_of(self, step: Step) -> StepStatus:
        """The recorded status of a step."""
        return self.step_status.get(step.id, StepStatus())


class StopRule(Struct, frozen=True):
    """How much may go wrong: the plan ends when so many pods are found, or one after so many seconds."""

    landed_elsewhere: int = 3
    newly_unready: int = 3
    ready_within_seconds: float = 600.0


class PolicyFacts(Struct, frozen=True):
    """The part of a policy that an execution reads."""

    name: str
    uid: str
    paused: bool = False
    enforce: bool = True
    plan_timeout_seconds: float = 900.0
    scheduler_names: tuple[str, ...] | None = None  # None: all
    canary: bool = False
    max_unavailable: MaxUnavailable | None = None
    stop: StopRule | None = None


class Attempt(Struct, frozen=True):
    """When this process last asked for an eviction, a binding or a patch, and how the server answered if it refused."""

    at: float
    retry_after_seconds: float = RETRY_SECONDS
    reason: StepReason | None = None  # None: it was granted
    message: str = ""  # the words of the server
