"""Whether an exchange of pods between nodes has any order at all: every state is tried, so only for small ones.

Shares no code with the product. A pod under the one budget takes a disruption while it has no node, and for good when
it loses its place; nothing that takes one starts when none is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct, structs

_AWAY = -1
_GONE = -2


class Thing(Protocol):
    """A pod: where it is, and where it shall be (None: nowhere)."""

    size: int
    port: bool
    covered: bool
    source: int | None
    target: int | None


class Exchange(Protocol):
    """Nodes with their size, and pods that change places."""

    sizes: tuple[int, ...]
    things: tuple[Thing, ...]
    allowed: int


class _State(Struct, frozen=True):
    where: tuple[int | None, ...]  # node by pod; None: not come yet
    left: int  # disruptions


def has_order(exchange: Exchange, *, detours: int) -> bool:
    """Whether the exchange has an order with swaps and at most so many temporary places.

    Raises:
        ValueError: there are pods that come together.
    """
    if any(getattr(thing, "gang", False) for thing in exchange.things):
        raise ValueError("pods of gangs are not searched for")
    return any(_reaches(exchange, most) for most in range(detours + 1))


def _reaches(exchange: Exchange, detours: int) -> bool:
    things = exchange.things
    goal = tuple(_GONE if one.source is not None and one.target is None else one.target for one in things)
    start = _State(tuple(one.source for one in things), exchange.allowed)
    todo, seen = [(start, detours)], {(start, detours)}
    while todo:
        state, more = todo.pop()
        if state.where == goal:
            return True
        for found in _next(exchange, state, more):
            if found not in seen:
                seen.add(found)
                todo.append(found)
    return False


def _next(exchange: Exchange, state: _State, detours: int) -> Iterator[tuple[_State, int]]:
    for number, thing in enumerate(exchange.things):
        here = state.where[number]
        if here == thing.target or here == _GONE:
            continue
        if thing.source is None or here == _AWAY:
            if thing.target is not None and _fits(exchange, state, number, thing.target):
                back = 1 if here == _AWAY and thing.covered else 0
                yield _moved(state, number, thing.target, back), detours
            continue
        if thing.covered and state.left < 1:
            continue
        spent = -1 if thing.covered else 0
        if thing.target is None:
            yield _moved(state, number, _GONE, spent), detours
            continue
        if _fits(exchange, state, number, thing.target):
            yield _moved(state, number, thing.target, 0), detours
        if here == thing.source:
            yield _moved(state, number, _AWAY, spent), detours
            for node in range(len(exchange.sizes) if detours else 0):
                if node not in {thing.source, thing.target} and _fits(exchange, state, number, node):
                    yield _moved(state, number, node, 0), detours - 1


def _moved(state: _State, number: int, node: int, back: int) -> _State:
    where = (*state.where[:number], node, *state.where[number + 1 :])
    return structs.replace(state, where=where, left=state.left + back)


def _fits(exchange: Exchange, state: _State, number: int, node: int) -> bool:
    there = [one for one, at in zip(exchange.things, state.where, strict=True) if at == node]
    thing = exchange.things[number]
    room = exchange.sizes[node] - sum(one.size for one in there)
    return thing.size <= room and not (thing.port and any(one.port for one in there))
