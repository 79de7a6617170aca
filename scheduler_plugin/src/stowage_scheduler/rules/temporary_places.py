"""The rules while pods stand in temporary places; at the end they stand elsewhere.

The steps are carried out in their order. Whenever a pod comes to a node where somebody is for a while, itself or
another one, every rule that speaks of places is asked about it and its node as they are then. Further moves count
towards the cap, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from msgspec import structs

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.slots import Slot


def broken_on_the_way(
    rules: Sequence[Rule], outcome: Outcome, steps: Sequence[Step], slots: Sequence[Slot]
) -> Iterator[Violation]:
    """Every way in which temporary places break a rule, and steps that do not find their pod there.

    Args:
        rules: those that speak of places are asked.
        outcome: of the whole plan.
        steps: in an order that is allowed.
        slots: where their pods go.
    """
    further = [step for step in steps if step.replacement_of]
    if not further:
        return
    yield from _beyond_the_cap(outcome, further)
    course = _Course(outcome, slots)
    asked = [rule for rule in rules if rule.of_places]
    firsts = {onward.replacement_of: onward for onward in further}
    stays: Counter[str] = Counter()  # by node, pods that are there for a while
    for step in steps:
        if step.replacement_of:
            stays[step.node] -= 1
            if step.replacement_of not in course.over:
                yield Violation("TemporaryPlace", step.pod.key, f"step {step.id} comes before {step.replacement_of}")
        came = course.carry_out(step)
        if (onward := firsts.get(step.id)) is not None:
            stays[onward.node] += 1
            here = course.where.get(onward.pod.uid)
            if here != onward.node:
                words = f"is on {here} when step {onward.id} wants {onward.node}"
                yield Violation("TemporaryPlace", onward.pod.key, words)
        for uid in came:
            pod, node = course.pods[uid], course.where[uid]
            if stays[node] > 0:
                for violation in course.asked_about(asked, pod, node):
                    yield structs.replace(violation, detail=f"after step {step.id}: {violation.detail}")


def _beyond_the_cap(outcome: Outcome, further: Sequence[Step]) -> Iterator[Violation]:
    """A pod that goes on from a temporary place is evicted once more."""
    limit, drain = outcome.options.max_moves, outcome.options.drain
    free = drain.nodes if drain is not None else frozenset[str]()
    moves = sum(pod.node not in free for pod in outcome.departures)
    if limit is not None and moves + len(further) > limit:
        words = (
            f"{counted(moves, 'move or eviction', 'moves and evictions')} and {counted(len(further), 'further one')}"
        )
        yield Violation("MoveLimit", "plan", f"{words}, at most {limit} allowed")


class _Moment(Outcome, frozen=True, dict=True):
    """A plan in the middle of it, for rules that speak of places; only who has come to one node counts as arrived."""

    here: Mapping[str, list[Pod]]
    came: Sequence[Pod]

    @cached_property
    def residents(self) -> dict[str, list[Pod]]:
        return dict(self.here)

    @cached_property
    def arrivals(self) -> list[tuple[Pod, Node | None]]:
        return [(pod, self.nodes.get(self.after[pod.uid])) for pod in self.came]

    @cached_property
    def departures(self) -> list[Pod]:
        return []

    @cached_property
    def staying(self) -> list[Pod]:
        return []


class _Course:
    """Who stands where while steps are carried out; the pod of a swap comes once there is room for it."""

    def __init__(self, outcome: Outcome, slots: Sequence[Slot]) -> None:
        snapshot = outcome.snapshot
        self.pods = {pod.uid: pod for pod in snapshot.pods}
        self.where: dict[str, str] = {  # by UID
            pod.uid: pod.node for pod in snapshot.pods if pod.node is not None and not pod.finished and not pod.leaving
        }
        self.over: set[str] = set()
        self._start = Outcome(snapshot, outcome.options, dict(self.where))
        self._residents = self._start.residents
        self._slots = {slot.id: slot for slot in slots}
        self._waiting: dict[str, list[tuple[str, Slot]]] = defaultdict(list)  # by a step that they need

    def carry_out(self, step: Step) -> list[str]:
        """Carry out a step.

        Returns:
            UIDs of the pods that have come.
        """
        self.over.add(step.id)
        if step.action is Action.EVICT:
            self._leave(step.pod.uid)
        ready = self._waiting.pop(step.id, [])
        if step.slot is not None:
            ready.insert(0, (step.pod.uid, self._slots[step.slot]))
        came = []
        for uid, slot in ready:
            missing = next((other for other in slot.after if other not in self.over), None)
            if missing is not None:
                self._waiting[missing].append((uid, slot))
                continue
            self._leave(uid)
            self.where[uid] = slot.node
            self._residents.setdefault(slot.node, []).append(self.pods[uid])
            came.append(uid)
        return came

    def _leave(self, uid: str) -> None:
        """Take a pod off its node, or off the one that a waiting pod is nominated to."""
        pod = self.pods[uid]
        node = self.where.pop(uid, pod.nominated_node if pod.node is None else None)
        if node is not None:
            self._residents[node] = [other for other in self._residents.get(node, ()) if other.uid != uid]

    def asked_about(self, rules: Sequence[Rule], pod: Pod, node: str) -> Iterator[Violation]:
        """What rules find wrong with a pod that has just come to a node, or with the node."""
        came = [one for one in self._residents[node] if one.node != node and self.where.get(one.uid) == node]
        moment = _Moment(self._start.snapshot, self._start.options, self.where, self._residents, came)
        for rule in rules:
            yield from (found for found in rule.check(moment) if found.subject in {pod.key, node})
