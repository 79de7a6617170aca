"""PackingPlan: the steps that place more pods, written before the first of them is taken."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.fields import (
    Digest,
    GangName,
    Identifier,
    Integer,
    LabelValue,
    ResourceName,
    Switch,
    Uid,
    Unique,
    cel,
)
from stowage.api.names import MAX_LABEL_VALUE, MAX_POLICY_NAME, MAX_STEPS
from stowage.api.packing_plan_status import PackingPlanStatus, PlanPhase
from stowage.api.pod_reference import PodReference
from stowage.api.resource import Resource, SpecFields
from stowage_scheduler import packing, slots
from stowage_scheduler.packing import Action

IMMUTABLE = cel(("self == oldSelf", "must not change: only approval may, the operator writes a new plan instead"))


class Approval(StrEnum):
    """What people say to a plan."""

    PENDING = "Pending"
    APPROVED = "Approved"
    ABORTED = "Aborted"


class PlanSteering(StrEnum):
    """What makes a replacement land where this plan says."""

    EXTENDER = "Extender"
    BIND = "Bind"


class PodClass(SpecFields):
    """What makes pods interchangeable: same controller, same template, same requests."""

    controller_uid: Uid
    """UID of the controller, or of the pod itself when it has none."""
    revision: LabelValue = ""
    """Template or revision hash of the pods."""
    requests: Digest
    """Digest of the scheduling requests."""
    pod_name: ResourceName | None = None
    """Name of the one pod that fits, for controllers whose replicas have an identity."""

    @classmethod
    def of(cls, fact: slots.SlotClass) -> Self:
        """The class as the packer made it."""
        return cls(
            controller_uid=fact.controller_uid,
            revision=fact.revision,
            requests=fact.requests,
            pod_name=fact.pod_name or None,
        )

    def to_fact(self) -> slots.SlotClass:
        """The class as the packer and the extender know it."""
        return slots.SlotClass(self.controller_uid, self.revision, self.requests, self.pod_name or "")


class PlanSlot(SpecFields):
    """A place kept for one pod of a class."""

    id: Identifier
    """Key of the slot within the plan."""
    pod_class: Annotated[PodClass, Field(alias="class")]
    """Which pods may take it."""
    node: ResourceName
    """Where it is."""
    standing: Annotated[Integer, Field(ge=0, le=100_000)] = 0
    """Pods of the class that ran on the node when the plan was made, and stay there."""
    after: Annotated[tuple[Identifier, ...], Field(max_length=MAX_STEPS - 1), Unique()] = ()
    """Slot of a swap: the steps whose pods must have left before anybody may take it."""

    @classmethod
    def of(cls, fact: slots.Slot) -> Self:
        """The slot as the packer made it."""
        return cls(
            id=fact.id,
            pod_class=PodClass.of(fact.slot_class),
            node=fact.node,
            standing=fact.standing,
            after=fact.after,
        )

    def to_fact(self) -> slots.Slot:
        """The slot as the packer and the extender know it."""
        return slots.Slot(self.id, self.pod_class.to_fact(), self.node, self.standing, self.after)


_SELF_RULE = "after must not name the step itself"
_SWAP_RULE = "swap needs action Evict and a slot"
_MOVES = "self.action == 'Evict' && has(self.slot) && !self.swap"
_REPLACEMENT_RULE = "replacementOf needs action Evict, a slot, no swap, and that step in after"


class PlanStep(SpecFields):
    """One step; it may start when every step of `after` is done."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!(self.id in self.after)", _SELF_RULE),
            ("!self.swap || (self.action == 'Evict' && has(self.slot))", _SWAP_RULE),
            (
                f"!has(self.replacementOf) || ({_MOVES} && has(self.after) && self.replacementOf in self.after)",
                _REPLACEMENT_RULE,
            ),
        )
    )

    id: Identifier
    """Key of the step within the plan."""
    action: Action
    """Evict a running pod; wait until a pod has been placed; bind it; or pin a gated pod and take its gate away."""
    pod: PodReference
    """The pod to evict or to place."""
    node: ResourceName
    """Evict: where the pod runs. Place: where it shall run."""
    slot: Identifier | None = None
    """The slot that the pod, or the replacement of the evicted pod, shall take; absent: it loses its place."""
    after: Annotated[tuple[Identifier, ...], Field(max_length=MAX_STEPS - 1), Unique()] = ()
    """Steps that must be done first."""
    swap: Switch = False
    """Whether the eviction breaks a cycle: the slot becomes free only later."""
    gang: GangName | None = None
    """Gang of the pod that arrives, within its namespace: all steps of a gang start together."""
    replacement_of: Identifier | None = None
    """Evict: the step whose replacement is evicted here, from a temporary place; `pod` is the pod of that step."""

    @classmethod
    def of(cls, step: packing.Step) -> Self:
        """The step as the packer made it."""
        return cls(
            id=step.id,
            action=step.action,
            pod=PodReference.of(step.pod),
            node=step.node,
            slot=step.slot,
            after=step.after,
            swap=step.swap,
            gang=step.gang or None,
            replacement_of=step.replacement_of or None,
        )

    def to_fact(self) -> packing.Step:
        """The step as the packer made it."""
        return packing.Step(
            id=self.id,
            action=self.action,
            pod=self.pod.to_fact(),
            node=self.node,
            slot=self.slot,
            after=self.after,
            swap=self.swap,
            gang=self.gang or "",
            replacement_of=self.replacement_of or "",
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.id in self.after:
            raise ValueError(_SELF_RULE)
        if self.swap and (self.action is not Action.EVICT or self.slot is None):
            raise ValueError(_SWAP_RULE)
        if self.replacement_of is not None:
            moved = self.action is Action.EVICT and self.slot is not None and not self.swap
            if not moved or self.replacement_of not in self.after:
                raise ValueError(_REPLACEMENT_RULE)
        return self


_SLOT_RULE = "steps must name slots of this plan"
_KEEP_RULE = "policyUid must not be added or removed"
_EMPTIES_RULE = "empties must not change: the operator writes a new plan instead"
_APPROVAL_RULE = "approval may change from Pending to Approved or Aborted, and from Approved to Aborted; nothing else"


class PackingPlanSpec(SpecFields):
    """The steps of a plan. Nothing but `approval` ever changes."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.steps.all(step, !has(step.slot) || self.slots.exists(one, one.id == step.slot))", _SLOT_RULE),
            ("has(self.policyUid) == has(oldSelf.policyUid)", _KEEP_RULE),
            (
                "(has(self.empties) ? self.empties : []) == (has(oldSelf.empties) ? oldSelf.empties : [])",
                _EMPTIES_RULE,
            ),
        )
    )

    policy: Annotated[ResourceName, Field(max_length=MAX_POLICY_NAME, json_schema_extra=IMMUTABLE)]
    """Name of the policy that the plan was made for."""
    policy_uid: Annotated[Uid | None, Field(json_schema_extra=IMMUTABLE)] = None
    """UID of that policy: a policy of the same name made later does not own the plan."""
    approval: Annotated[
        Approval,
        Field(
            json_schema_extra=cel(
                (
                    "self == oldSelf || oldSelf == 'Pending' || (oldSelf == 'Approved' && self == 'Aborted')",
                    _APPROVAL_RULE,
                )
            )
        ),
    ] = Approval.PENDING
    """What people say to the plan: the only field that they write."""
    steering: Annotated[PlanSteering, Field(json_schema_extra=IMMUTABLE)] = PlanSteering.EXTENDER
    """What makes a replacement land where the plan says."""
    slots: Annotated[tuple[PlanSlot, ...], Field(max_length=MAX_STEPS, json_schema_extra=IMMUTABLE), Unique("id")] = ()
    """Places kept for pods of a class."""
    steps: Annotated[tuple[PlanStep, ...], Field(max_length=MAX_STEPS, json_schema_extra=IMMUTABLE), Unique("id")] = ()
    """A directed graph without cycles: each step is safe given those it comes after."""
    empties: Annotated[tuple[ResourceName, ...], Field(max_length=MAX_STEPS), Unique()] | None = None
    """Of a consolidation: the nodes that all pods leave which could be moved. The plan ends when a pod waits."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        slot_ids = {slot.id for slot in self.slots}
        step_ids = {step.id for step in self.steps}
        for slot in self.slots:
            unknown = sorted(set(slot.after) - step_ids)
            if unknown:
                raise ValueError(f"slot {slot.id}: after names {unknown[0]}, which is not one of spec.steps")
        for step in self.steps:
            if step.slot is not None and step.slot not in slot_ids:
                raise ValueError(f"step {step.id}: slot {step.slot} is not one of spec.slots")
            unknown = sorted(set(step.after) - step_ids)
            if unknown:
                raise ValueError(f"step {step.id}: after names {unknown[0]}, which is not one of spec.steps")
        _refuse_ways_from_nowhere(self.steps, {slot.id: slot.node for slot in self.slots})
        _refuse_cycles({step.id: step.after for step in self.steps})
        return self


def _refuse_ways_from_nowhere(steps: tuple[PlanStep, ...], nodes: Mapping[str, str]) -> None:
    """A step that sends a replacement on starts where that landed, and no pod is sent on twice from one place."""
    by_id = {step.id: step for step in steps}
    seen: dict[str, str] = {}
    for step in steps:
        if step.replacement_of is None:
            continue
        first = by_id[step.replacement_of]
        lands = nodes[first.slot] if first.slot is not None else None
        if first.action is not Action.EVICT or first.swap or lands != step.node or first.pod != step.pod:
            rule = f"replacementOf names {first.id}, which does not evict that pod to come to node {step.node}"
            raise ValueError(f"step {step.id}: {rule}")
        if seen.setdefault(first.id, step.id) != step.id:
            raise ValueError(f"step {step.id}: replacementOf names {first.id}, as step {seen[first.id]} does already")


def _refuse_cycles(after: Mapping[str, tuple[str, ...]]) -> None:
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        raise ValueError(f"steps wait for each other in a circle: {' → '.join(error.args[1])}") from error


class PackingPlan(Resource):
    """A plan: the steps that place more pods, and how far they have come."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                f"self.metadata.name.size() <= {MAX_LABEL_VALUE}",
                f"metadata.name must have at most {MAX_LABEL_VALUE} characters: it is used as a label",
            )
        )
    )
    plural: ClassVar[str] = "packingplans"
    max_name_length: ClassVar[int] = MAX_LABEL_VALUE

    kind: Literal["PackingPlan"] = "PackingPlan"
    spec: PackingPlanSpec
    """The steps; written once by the operator. People write `approval` alone."""
    status: PackingPlanStatus = PackingPlanStatus()
    """How far the execution has come; only the leading operator writes it, except `extenders`."""

    @property
    def active(self) -> bool:
        """Whether the extender must keep this plan's slots: it is approved, and has not ended."""
        return self.spec.approval is Approval.APPROVED and self.status.phase in {
            None,
            PlanPhase.APPROVED,
            PlanPhase.RUNNING,
        }
