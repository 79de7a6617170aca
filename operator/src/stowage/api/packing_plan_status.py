"""Status of a PackingPlan: how far its execution has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, computed_field

from stowage.api.conditions import Conditions
from stowage.api.durations import Instant
from stowage.api.fields import (
    ATOMIC,
    MAX_COUNT,
    MAX_INT32,
    Decimal,
    Identifier,
    Integer,
    ManagerName,
    Message,
    ReasonWord,
    ResourceName,
    Switch,
    Uid,
    Unique,
)
from stowage.api.names import MAX_STEPS
from stowage.api.pod_reference import PodReference
from stowage.api.resource import StatusFields

MAX_UNPLACED = 256
MAX_PRIORITIES = 256
Count = Annotated[Integer, Field(ge=0, le=MAX_COUNT)]


class PlanPhase(StrEnum):
    """Where a plan is in its life."""

    PROPOSED = "Proposed"
    APPROVED = "Approved"
    RUNNING = "Running"
    DONE = "Done"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to the plan any more."""
        return self in {PlanPhase.DONE, PlanPhase.ABORTED, PlanPhase.SUPERSEDED}


class StepState(StrEnum):
    """How far a step is: Intended is written before acting, so that a crash leaves a trace."""

    WAITING = "Waiting"
    INTENDED = "Intended"
    DONE = "Done"
    VOID = "Void"
    FAILED = "Failed"

    @property
    def settled(self) -> bool:
        """Whether the step will not change any more."""
        return self in {StepState.DONE, StepState.VOID, StepState.FAILED}


class SlotState(StrEnum):
    """Whether a slot may be taken: not before its step has started, for the room may be meant for others first."""

    WAITING = "Waiting"
    OPEN = "Open"
    FILLED = "Filled"
    VOID = "Void"


class StepStatus(StatusFields):
    """How far one step is."""

    id: Identifier
    """Step of `spec.steps`."""
    state: StepState
    """Waiting, Intended, Done, Void or Failed."""
    reason: ReasonWord | None = None
    """Why, from a closed set."""
    message: Message | None = None
    """Why, in words."""
    at: Instant | None = None
    """When `state` or `reason` last changed."""
    pod_uid: Annotated[Uid | None, Field(alias="podUID")] = None
    """UID of the pod that the step acts on, written with the intent."""


class SlotStatus(StatusFields):
    """Whether one slot still waits for its pod."""

    id: Identifier
    """Slot of `spec.slots`."""
    state: SlotState
    """Waiting, Open, Filled or Void."""
    pod: PodReference | None = None
    """The pod that took the slot; with state Open, the one it is promised to."""


class ExtenderStatus(StatusFields):
    """What one extender knows; written by that extender."""

    holder: ResourceName
    """Who it is: `--holder`, by default its host name."""
    observed_plan: Uid
    """UID of this plan, once the extender keeps its slots."""
    at: Instant
    """When it was written."""


class ApprovedBy(StatusFields):
    """Who approved the plan, as far as the managed fields of `spec.approval` tell."""

    manager: ManagerName
    """Field manager, such as stowage-cli; the user is in the API server's audit log."""
    at: Instant | None = None
    """When."""


class PriorityCount(StatusFields):
    """Pods of one priority or higher that run."""

    priority: Annotated[Integer, Field(ge=-(2**31), le=MAX_INT32)]
    """Pods of this priority and above are counted."""
    before: Count
    """Pods that ran when the plan was made."""
    after: Count
    """Pods that run once the plan is done."""
    bound: Count
    """Pods that run in no plan more than."""


class SolveStatus(StatusFields):
    """What making the plan cost."""

    seconds: Decimal
    """Wall time of the whole packing."""
    stages: Annotated[
        dict[Annotated[str, Field(max_length=63)], Decimal], Field(max_length=32, description="Seconds by stage.")
    ] = Field(default_factory=dict)


class UnplacedPod(StatusFields):
    """A pending pod that the plan does not place."""

    pod: PodReference
    """The pod."""
    reason: ReasonWord
    """Why, from the packer's closed set."""
    help: Message = ""
    """The cheapest thing found that would help."""


class PackingPlanStatus(StatusFields):
    """How far the execution of a plan has come."""

    observed_generation: Count = 0
    """`metadata.generation` that this status speaks of."""
    phase: PlanPhase | None = None
    """Proposed, Approved, Running, Done, Aborted or Superseded; absent: the operator has not looked yet."""
    reason: ReasonWord | None = None
    """Why the plan is in this phase, from a closed set."""
    message: Message = ""
    """Why, in words."""
    epoch: Count = 0
    """Epoch of the leader that wrote last; a leader of a lower one stops."""
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=MAX_STEPS), Unique("id")] = ()
    """Steps of the spec, in its order."""
    slots: Annotated[tuple[SlotStatus, ...], Field(max_length=MAX_STEPS), Unique("id")] = ()
    """Slots of the spec, in its order."""
    extenders: Annotated[tuple[ExtenderStatus, ...], Field(max_length=16), Unique("holder")] = ()
    """Extenders that keep the slots of this plan; each writes its own entry."""
    approved_by: ApprovedBy | None = None
    """Who approved the plan."""
    placed_by_priority: Annotated[tuple[PriorityCount, ...], Field(max_length=MAX_PRIORITIES), Unique("priority")] = ()
    """Running pods by priority, before and after."""
    certified: Switch = False
    """Whether it is proved that no plan places more pods."""
    solve: SolveStatus | None = None
    """What making the plan cost."""
    unplaced: Annotated[tuple[UnplacedPod, ...], Field(max_length=MAX_UNPLACED, json_schema_extra=ATOMIC)] = ()
    """Pods that stay pending: the first ones, `unplacedTotal` in all."""
    unplaced_total: Count = 0
    """Number of pods that stay pending."""
    started_at: Instant | None = None
    """When the first step was allowed to start."""
    unready_at_start: Count | None = None
    """Pods of the controllers that the plan touches that were not Ready then, for `disruption.stopRule`."""
    finished_at: Instant | None = None
    """When the plan ended."""
    conditions: Conditions = ()
    """Approved, Complete and Stalled."""

    @computed_field(  # type: ignore[prop-decorator]
        description="Settled steps out of all steps, for people.", json_schema_extra={"maxLength": 16}
    )
    @property
    def progress(self) -> str:
        """Settled steps out of all steps, such as `3/12`; derived, never read back."""
        return f"{sum(step.state.settled for step in self.steps)}/{len(self.steps)}"
