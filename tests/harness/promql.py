"""What a query of Prometheus speaks of, against the catalogue of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import promql_parser

from stowage.run.catalogue import CATALOGUE

TARGET_LABELS: Final = frozenset({"job", "instance"})
"""Labels that Prometheus itself puts on every series."""

LABELS: Final[Mapping[str, frozenset[str]]] = {
    name: labels for metric in CATALOGUE for name, labels in metric.series.items()
}
VALUES: Final = {
    (name, label.name): frozenset(label.values)
    for metric in CATALOGUE
    for name in metric.series
    for label in metric.labels
    if label.closed
}
_EQUAL: Final = ("MatchOp.Equal", "MatchOp.NotEqual")


def problems(query: str) -> list[str]:
    """What a query asks for that nobody shows, one sentence each."""
    try:
        expression = promql_parser.parse(query)
    except ValueError as error:
        return [f"{query}: {error}"]
    return list(_unknown(expression))


def names(query: str) -> set[str]:
    """The names of the series that a query asks for."""
    return {str(node.name) for node in _nodes(promql_parser.parse(query), promql_parser.VectorSelector)}


def _unknown(expression: Any) -> Iterator[str]:
    for selector in _nodes(expression, promql_parser.VectorSelector):
        known = LABELS.get(selector.name)
        if known is None:
            yield f"{selector.name} is not in the catalogue"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in known | TARGET_LABELS:
                yield f"{selector.name} has no label {matcher.name}"
            for value in _unknown_values(selector.name, matcher):
                yield f"{selector.name}: {matcher.name} is never {value}"
    yield from _unknown_groups(expression)


def _unknown_groups(expression: Any) -> Iterator[str]:
    for aggregate in _nodes(expression, promql_parser.AggregateExpr):
        below = {str(node.name) for node in _nodes(aggregate.expr, promql_parser.VectorSelector)}
        offered = TARGET_LABELS.union(*(LABELS.get(name, frozenset()) for name in below))
        for label in aggregate.modifier.labels if aggregate.modifier is not None else ():
            if label not in offered:
                yield f"{', '.join(sorted(below))}: no label {label} to group by"
    for operation in _nodes(expression, promql_parser.BinaryExpr):
        below = {str(node.name) for node in _nodes(operation, promql_parser.VectorSelector)}
        offered = TARGET_LABELS.union(*(LABELS.get(name, frozenset()) for name in below))
        matching = operation.modifier.matching if operation.modifier is not None else None
        for label in matching.labels if matching is not None else ():
            if label not in offered:
                yield f"{', '.join(sorted(below))}: no label {label} to match on"


def _unknown_values(name: str, matcher: Any) -> list[str]:
    """What a matcher looks for, or leaves out, that no label value is; variables of a dashboard may be anything."""
    values = VALUES.get((name, matcher.name))
    if values is None or matcher.value.startswith("$"):
        return []
    if str(matcher.op) in _EQUAL:
        return [] if matcher.value in values else [matcher.value]
    return [part for part in matcher.value.split("|") if not any(re.fullmatch(part, value) for value in values)]


def _nodes(expression: Any, kind: type) -> Iterator[Any]:
    found: list[Any] = []
    promql_parser.walk(expression, lambda node: found.append(node) if isinstance(node, kind) else None)
    yield from found
