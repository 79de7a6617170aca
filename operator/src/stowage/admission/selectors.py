"""Label selectors that no object can ever meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from stowage.admission.verdict import Problem
from stowage_scheduler.cluster import LabelSelector, Requirement
from stowage_scheduler.kube.matching import matches_selector


def impossible(field: str, selector: LabelSelector) -> Iterator[Problem]:
    """One problem for each label key whose conditions contradict each other.

    Keys do not depend on each other, so each is tried alone, by the rules that select objects: absent, with each
    value that is mentioned, and with one that is not.

    Args:
        field: path of the selector in its object.
        selector: the selector.
    """
    keys = dict.fromkeys([*(key for key, _ in selector.labels), *(one.key for one in selector.expressions)])
    for key in keys:
        part = LabelSelector(
            labels=tuple(pair for pair in selector.labels if pair[0] == key),
            expressions=tuple(one for one in selector.expressions if one.key == key),
        )
        if not any(matches_selector(part, labels) for labels in _candidates(key, part)):
            rule = f"no object can have a label {key} that meets this; drop or change a condition"
            yield Problem(field, _shown(part), rule)


def _candidates(key: str, part: LabelSelector) -> Iterator[dict[str, str]]:
    mentioned = {value for _, value in part.labels} | {value for one in part.expressions for value in one.values}
    yield {}
    for value in sorted(mentioned):
        yield {key: value}
    yield {key: next(other for number in itertools.count() if (other := f"other-{number}") not in mentioned)}


def _shown(part: LabelSelector) -> str:
    conditions = [f"{key} = {value}" for key, value in part.labels]
    return ", ".join([*conditions, *(_condition(one) for one in part.expressions)])


def _condition(one: Requirement) -> str:
    values = f" [{', '.join(one.values)}]" if one.values else ""
    return f"{one.key} {one.operator}{values}"
