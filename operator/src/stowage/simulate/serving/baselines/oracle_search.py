"""Improves a plan by moving the ends of its shifts, as long as few enough requests miss their targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stowage.simulate.serving.baselines.oracle_runs import TAIL_SECONDS, WARM_SECONDS, Stage
from stowage.simulate.serving.baselines.serving_plan import Plan, Terms, shifts

_LENGTHS = (1, 2, 4, 8, 16)
_SHORT = 3
_MOST_AT_ONCE = 4
_BEST_KEPT = 40


@dataclass(frozen=True, slots=True)
class Change:
    """One replica more or less in the slots `first` to before `end`."""

    first: int
    end: int
    by: int

    def of(self, plan: Plan, terms: Terms) -> Plan:
        """The plan with it, normal."""
        changed = [count + self.by if self.first <= slot < self.end else count for slot, count in enumerate(plan)]
        return terms.normal(changed)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a change saves and how many more requests miss; `first` to before `end` are the slots that it touches."""

    change: Change
    saved_seconds: float
    more_misses: int
    first: int
    end: int

    @property
    def worth(self) -> float:
        return self.saved_seconds / self.more_misses if self.more_misses > 0 else float("inf")


class Search:
    """Greedy: the change that saves most per miss; where none is left, one replica more that pays for one less."""

    def __init__(self, stage: Stage, most_misses: int, most_played: int) -> None:
        """`most_misses` are allowed; the search ends once about `most_played` requests have been played."""
        self._stage, self._terms = stage, stage.terms
        self._most_misses, self._most_played = most_misses, most_played
        self._known: dict[Change, _Tried | None] = {}

    def improved(self, plan: Plan) -> Plan:
        """The cheapest plan found from `plan` on that keeps within the misses, by runs of the whole trace."""
        misses = self._stage.misses(plan)
        if misses > self._most_misses:
            return plan
        self._known = {}
        checked, most = (plan, misses), _MOST_AT_ONCE
        while self._stage.played < self._most_played:
            slack = self._most_misses - misses
            changes = self._saving(plan, slack)[:most] or self._exchange(plan, slack)
            if not changes:
                break
            known = dict(self._known)
            for one in changes:
                plan = one.change.of(plan, self._terms)
                self._forget(one)
            misses = self._stage.misses(plan)
            if misses <= self._most_misses:
                checked, most = (plan, misses), min(_MOST_AT_ONCE, 2 * most)
                continue
            # stretches played alone told too little: back, fewer at once, and at last leave the change alone
            self._known = known | ({one.change: None for one in changes} if most == 1 or len(changes) == 1 else {})
            (plan, misses), most = checked, max(1, most // 4)
        return checked[0]

    def _saving(self, plan: Plan, slack: int) -> list[_Tried]:
        """Changes that save, those first that save most per miss, none near another, within the slack together."""
        possible = [one for one in self._tried(plan, _less(plan)) if one.saved_seconds > 0]
        chosen: list[_Tried] = []
        for one in sorted(possible, key=lambda one: (-one.worth, -one.saved_seconds)):
            if one.more_misses <= slack and all(self._are_apart(one, other) for other in chosen):
                chosen.append(one)
                slack -= max(0, one.more_misses)
        return chosen

    def _are_apart(self, one: _Tried, other: _Tried) -> bool:
        reach = round((WARM_SECONDS + TAIL_SECONDS + self._terms.lead_seconds) / self._terms.slot_seconds)
        return one.end + reach <= other.first or other.end + reach <= one.first

    def _exchange(self, plan: Plan, slack: int) -> list[_Tried]:
        more = [one for one in self._tried(plan, _more(plan)) if one.more_misses < 0]
        less = [one for one in self._tried(plan, _less(plan)) if one.saved_seconds > 0]
        more = sorted(more, key=lambda one: one.saved_seconds / one.more_misses)[:_BEST_KEPT]
        less = sorted(less, key=lambda one: -one.worth)[:_BEST_KEPT]
        pairs = [
            (gain.saved_seconds + loss.saved_seconds, gain, loss)
            for gain in more
            for loss in less
            if gain.saved_seconds + loss.saved_seconds > 0
            and gain.more_misses + loss.more_misses <= slack
            and self._are_apart(gain, loss)
        ]
        best = max(pairs, key=lambda pair: pair[0], default=None)
        return [] if best is None else [best[1], best[2]]

    def _tried(self, plan: Plan, changes: Iterable[Change]) -> Iterator[_Tried]:
        for change in changes:
            if change not in self._known:
                if self._stage.played > self._most_played:
                    return
                self._known[change] = self._try(plan, change)
            found = self._known[change]
            if found is not None:
                yield found

    def _try(self, plan: Plan, change: Change) -> _Tried | None:
        """None where it changes nothing, or not into the direction that it is meant for."""
        changed = change.of(plan, self._terms)
        where = [slot for slot, (before, after) in enumerate(zip(plan, changed, strict=True)) if before != after]
        saved = self._terms.replica_seconds(plan) - self._terms.replica_seconds(changed)
        if not where or (saved > 0) != (change.by < 0):
            return None
        first, end = where[0], where[-1] + 1
        misses = self._stage.misses_between(changed, first, end) - self._stage.misses_between(plan, first, end)
        return _Tried(change, saved, misses, first, end)

    def _forget(self, done: _Tried) -> None:
        """What is known of changes near one that was made is true no more."""
        reach = round((WARM_SECONDS + TAIL_SECONDS + self._terms.lead_seconds) / self._terms.slot_seconds)
        self._known = {
            change: one
            for change, one in self._known.items()
            if (one or change).end + reach <= done.first or (one or change).first >= done.end + reach
        }


def _less(plan: Plan) -> Iterator[Change]:
    """Shifts left out, begun later or ended earlier."""
    for one in shifts(plan):
        length = one.end - one.first
        yield Change(one.first, one.end, -1)
        for part in _LENGTHS:
            if part < length:
                yield Change(one.first, one.first + part, -1)
                yield Change(one.end - part, one.end, -1)


def _more(plan: Plan) -> Iterator[Change]:
    """Shifts begun earlier or ended later."""
    for one in shifts(plan):
        for part in _LENGTHS[:_SHORT]:
            if one.first > 0:
                yield Change(max(0, one.first - part), one.first, 1)
            if one.end < len(plan):
                yield Change(one.end, min(len(plan), one.end + part), 1)
