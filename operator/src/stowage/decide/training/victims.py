"""Which seats go when a job becomes smaller: what helps least first, never a healthy one before a bad one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct


class Standing(Struct, frozen=True):
    """How one seat stands.

    Attributes:
        seat: like `s3`.
        number: of the seat.
        placed: it has a pod with a node.
        sound: its node is ready, not cordoned, and nobody keeps away from it.
        ready: its pod is, and stays.
        connected: its supervisor is heard.
        slow: one of its ranks is slower than the others.
        domains: where its node lies, from the widest domain to the narrowest.
    """

    seat: str
    number: int
    placed: bool = True
    sound: bool = True
    ready: bool = True
    connected: bool = True
    slow: bool = False
    domains: tuple[str, ...] = ()


def victims(seats: Sequence[Standing], count: int) -> tuple[str, ...]:
    """The seats that go, in the order in which they are given up.

    Of healthy ones those go that leave the others closest together, one in the domain with the fewest, then those with
    the highest number: it was asked for last.
    """
    rest = list(seats)
    gone: list[str] = []
    for _ in range(min(count, len(rest))):
        widths = range(max(len(one.domains) for one in rest))
        crowds = [Counter(one.domains[: width + 1] for one in rest) for width in widths]

        def worth(one: Standing, crowds: Sequence[Counter[tuple[str, ...]]] = crowds) -> tuple[object, ...]:
            together = tuple(crowd[one.domains[: width + 1]] for width, crowd in enumerate(crowds))
            return (one.placed, one.sound, one.ready, one.connected, not one.slow, together, -one.number)

        least = min(rest, key=worth)
        rest.remove(least)
        gone.append(least.seat)
    return tuple(gone)
