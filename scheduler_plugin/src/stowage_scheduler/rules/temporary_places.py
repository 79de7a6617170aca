"""The rules at the moment when a pod comes to a temporary place; at the end it stands elsewhere.

The steps are carried out in their order up to that moment, and every rule is asked about the pod and its node then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from stowage_scheduler.packing import Action, Step
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.slots import Slot


def broken_on_the_way(
    rules: Sequence[Rule], outcome: Outcome, steps: Sequence[Step], slots: Sequence[Slot]
) -> Iterator[Violation]:
    """Every way in which a pod breaks a rule in its temporary place, and steps that do not find their pod there.

    Args:
        rules: that hold for places.
        outcome: of the whole plan.
        steps: in an order that is allowed.
        slots: where their pods go.
    """
    by_id = {step.id: step for step in steps}
    for onward in steps:
        if not onward.replacement_of:
            continue
        first = by_id[onward.replacement_of]
        moment = structs.replace(outcome, after=_after(outcome, steps, {slot.id: slot for slot in slots}, first))
        here = moment.after.get(onward.pod.uid)
        if here != onward.node:
            yield Violation("TemporaryPlace", onward.pod.key, f"is on {here} when step {onward.id} wants {onward.node}")
        for rule in rules:
            for violation in rule.check(moment):
                if violation.subject in {onward.pod.key, onward.node}:
                    yield structs.replace(violation, detail=f"after step {first.id}: {violation.detail}")


def _after(outcome: Outcome, steps: Sequence[Step], slots: Mapping[str, Slot], last: Step) -> Mapping[str, str]:
    """Where each pod stands when `last` is done, by UID; the pod of a swap once there is room for it."""
    where = {
        pod.uid: pod.node
        for pod in outcome.snapshot.pods
        if pod.node is not None and not pod.finished and not pod.leaving
    }
    away: list[Step] = []
    over: set[str] = set()
    for step in steps:
        over.add(step.id)
        if step.action is Action.EVICT:
            where.pop(step.pod.uid, None)
        if step.slot is not None:
            away.append(step)
        landed = [one for one in away if over.issuperset(slots[one.slot or ""].after)]
        where |= {one.pod.uid: slots[one.slot or ""].node for one in landed}
        away = [one for one in away if one not in landed]
        if step is last:
            break
    return where
