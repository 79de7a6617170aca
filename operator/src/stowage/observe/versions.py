"""Which events of a watch are news: told apart by resource version, object by object.

A watch may deliver an event twice or out of order when something between the server and this process repeats or
delays it. Resource versions of one collection are ordered numbers (KEP-5504), and an object made again under an old
name has a higher one than its predecessor ever had, so the version alone tells what is news. Versions that are no
numbers are never compared: each of their events is news.
"""

from __future__ import annotations

from collections.abc import KeysView
from enum import Enum, auto
from typing import Final, Generic, TypeVar

MOST_GONE: Final = 10_000  # deleted objects remembered between two bookmarks

K = TypeVar("K")


class Verdict(Enum):
    """What an event is."""

    NEWS = auto()
    REPEATED = auto()
    """It tells nothing that is not known, or overtaken."""
    TOO_LATE = auto()
    """It should have come before a bookmark that promised that nothing older was missing."""


class Versions(Generic[K]):
    """The last version known of each object that exists, and of those deleted since the last bookmark."""

    def __init__(self) -> None:
        self._known: dict[K, int] = {}
        self._gone: dict[K, int] = {}
        self._listed = 0
        self._promised = 0

    def __contains__(self, key: K) -> bool:
        return key in self._known

    def keys(self) -> KeysView[K]:
        """The objects that exist."""
        return self._known.keys()

    def judge(self, key: K, version: str, *, deleted: bool = False) -> Verdict:
        """Whether an event tells something new.

        Args:
            key: of its object.
            version: of its object.
            deleted: the event says that the object is gone; that may carry the version of the last change.
        """
        number = _number(version)
        known = max(self._known.get(key, 0), self._gone.get(key, 0))
        if not number or (deleted and number == known and key in self._known):
            return Verdict.NEWS
        if number <= max(known, self._listed):
            return Verdict.REPEATED
        return Verdict.TOO_LATE if number <= self._promised else Verdict.NEWS

    def put(self, key: K, version: str) -> None:
        """The object exists, in this version."""
        self._known[key] = _number(version)

    def drop(self, key: K, version: str = "") -> None:
        """The object is gone; `version` is that of its deletion."""
        self._known.pop(key, None)
        number = _number(version)
        if number and len(self._gone) < MOST_GONE:
            self._gone[key] = number

    def listed(self, version: str) -> None:
        """A list is complete: it holds everything up to this version."""
        self._listed = self._promised = _number(version)
        self._gone.clear()

    def promised(self, version: str) -> bool:
        """Take a bookmark: everything up to this version has been sent.

        Returns:
            False when the server has gone back, as after etcd was restored from a backup: what is known is void.
        """
        number = _number(version)
        if not number:
            return True
        if number < self._promised:
            return False
        self._promised = number
        self._gone.clear()
        return True


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
