"""PackingPlans as the extender sees them: slots, whether they are to be kept, and who has acknowledged that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from stowage.api.packing_plan import Approval
from stowage.api.packing_plan_status import PlanPhase, SlotState
from stowage_scheduler.kube.malformed import FieldError, MalformedObject, rejection
from stowage_scheduler.reservations import ActivePlan
from stowage_scheduler.slots import Slot, SlotClass

ACTIVE_PHASES: Final = frozenset({None, PlanPhase.APPROVED, PlanPhase.RUNNING})


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """Base of the parts of a PackingPlan that the extender reads; everything else is skipped.

    A plan's status changes with every step, on the event loop that answers the scheduler: the full model
    would take 6 ms for a plan of 256 steps, this takes a fraction of one.
    """


class _Metadata(Part, frozen=True):
    name: str
    uid: str
    deletion_timestamp: str | None = None


class _Class(Part, frozen=True):
    controller_uid: str
    revision: str = ""
    requests: str = ""
    pod_name: str | None = None


class _Slot(Part, frozen=True):
    id: str
    pod_class: _Class = msgspec.field(name="class")
    node: str
    standing: int | None = None


class _Spec(Part, frozen=True):
    approval: Approval = Approval.PENDING
    slots: tuple[_Slot, ...] | None = None
    empties: tuple[str, ...] | None = None


class _SlotStatus(Part, frozen=True):
    id: str
    state: SlotState


class _Extender(Part, frozen=True):
    holder: str
    observed_plan: str


class _Status(Part, frozen=True):
    phase: PlanPhase | None = None
    slots: tuple[_SlotStatus, ...] | None = None
    extenders: tuple[_Extender, ...] | None = None
    finished_at: datetime | None = None


class _Document(Part, frozen=True):
    metadata: _Metadata
    spec: _Spec
    status: _Status | None = None


class SeenPlan(msgspec.Struct, frozen=True):
    """A PackingPlan as the extender sees it.

    `observed_by` are holders that have acknowledged this plan. `emptied_at` is when it was done, in seconds since the
    epoch, if it was made to empty the nodes that `slots` has as closed.
    """

    slots: ActivePlan
    active: bool
    observed_by: frozenset[str] = frozenset()
    emptied_at: float | None = None


_documents = msgspec.json.Decoder(_Document)


def read_plan(raw: bytes) -> SeenPlan:
    """Read a PackingPlan; slots that are void are left out, those that nobody has opened wait.

    Raises:
        MalformedObject: a field is missing or has another type than the resource definition allows.
    """
    try:
        document = _documents.decode(raw)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `")
        field = place.strip("`").removeprefix("$.") or "(the object)"
        raise MalformedObject(rejection("PackingPlan", _name(raw), FieldError(field, "", words))) from error
    metadata, spec, status = document.metadata, document.spec, document.status or _Status()
    void = {slot.id for slot in status.slots or () if slot.state is SlotState.VOID}
    slots = tuple(
        Slot(
            slot.id,
            SlotClass(
                slot.pod_class.controller_uid,
                slot.pod_class.revision,
                slot.pod_class.requests,
                slot.pod_class.pod_name or "",
            ),
            slot.node,
            slot.standing or 0,
        )
        for slot in spec.slots or ()
        if slot.id not in void
    )
    # until the operator has said that a slot is open, it waits: a new plan has no status for a moment
    open_or_filled = {slot.id for slot in status.slots or () if slot.state is not SlotState.WAITING}
    waiting = {slot.id for slot in slots} - open_or_filled
    approved = spec.approval is Approval.APPROVED and metadata.deletion_timestamp is None
    return SeenPlan(
        slots=ActivePlan(metadata.uid, metadata.name, slots, frozenset(waiting), frozenset(spec.empties or ())),
        active=approved and status.phase in ACTIVE_PHASES,
        emptied_at=_emptied_at(spec, status),
        observed_by=frozenset(one.holder for one in status.extenders or () if one.observed_plan == metadata.uid),
    )


def _emptied_at(spec: _Spec, status: _Status) -> float | None:
    done = spec.empties and status.phase is PlanPhase.DONE and status.finished_at is not None
    return status.finished_at.timestamp() if done and status.finished_at is not None else None


def _name(raw: bytes) -> str:
    metadata = msgspec.json.decode(raw, type=dict[str, Any]).get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""
