"""Snapshots for the process that packs: whole the first time, then what has changed since the last one.

The store hands out the same fact until it changes, so what changed is told by identity, without looking into any fact.
The other side keeps the last snapshot. When it does not have the one that changes refer to (its process is new), it
says so and gets the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from stowage_scheduler.cluster import Snapshot

_KEYS: Final = {"nodes": "name", "pods": "uid", "workloads": "uid"}  # the large kinds, and what tells their facts apart
_MOST_CHANGED = 0.5  # of all facts of these kinds; beyond, the whole is as cheap

_Facts = Mapping[str, Mapping[str, Any]]
"""By kind the facts by their key."""

_encode = msgspec.msgpack.Encoder().encode


class Changes(Struct, frozen=True):
    """What makes snapshot `number` of snapshot `base`; of nothing when there is no base.

    `rest` is the new snapshot, but of its large kinds only what came or changed; `gone` are keys by kind.
    """

    number: int
    base: int | None
    rest: Snapshot
    gone: Mapping[str, tuple[str, ...]]


_decode = msgspec.msgpack.Decoder(Changes).decode


class Sender:
    """Writes snapshots, each as what changed since the one before."""

    def __init__(self) -> None:
        self._number = 0
        self._known: _Facts | None = None

    def whole(self, snapshot: Snapshot) -> bytes:
        """All of a snapshot."""
        self._number += 1
        self._known = _by_key(snapshot)
        return _encode(Changes(self._number, None, snapshot, {}))

    def changes(self, snapshot: Snapshot) -> bytes:
        """What changed, or all of it where that is most of it or there was none before."""
        before, after = self._known, _by_key(snapshot)
        if before is None or after is None:
            return self.whole(snapshot)
        fresh = {kind: _fresh(before[kind], facts) for kind, facts in after.items()}
        if sum(map(len, fresh.values())) > _MOST_CHANGED * sum(map(len, after.values())):
            return self.whole(snapshot)
        gone = {kind: tuple(key for key in before[kind] if key not in facts) for kind, facts in after.items()}
        self._number += 1
        self._known = after
        return _encode(Changes(self._number, self._number - 1, structs.replace(snapshot, **fresh), gone))


class Receiver:
    """Reads snapshots, and keeps the last one."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._known: dict[str, dict[str, Any]] = {}

    def snapshot(self, message: bytes) -> Snapshot | None:
        """The snapshot of a message; None when it speaks of changes to one that is not here."""
        changes = _decode(message)
        if changes.base is None:
            self._number = changes.number
            self._known = {kind: dict(facts) for kind, facts in (_by_key(changes.rest) or {}).items()}
            return changes.rest
        if changes.base != self._number:
            return None
        self._number = changes.number
        for kind, key in _KEYS.items():
            known = self._known[kind]
            for name in changes.gone[kind]:
                del known[name]
            known.update((getattr(fact, key), fact) for fact in getattr(changes.rest, kind))
        return structs.replace(changes.rest, **{kind: tuple(facts.values()) for kind, facts in self._known.items()})


def _by_key(snapshot: Snapshot) -> _Facts | None:
    """The facts of the large kinds by key; None when keys do not tell all of them apart."""
    found = {kind: {getattr(fact, key): fact for fact in getattr(snapshot, kind)} for kind, key in _KEYS.items()}
    return found if all(len(facts) == len(getattr(snapshot, kind)) for kind, facts in found.items()) else None


def _fresh(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Any, ...]:
    """Facts that were not there before, or were others."""
    return tuple(fact for key, fact in after.items() if before.get(key) is not fact)
