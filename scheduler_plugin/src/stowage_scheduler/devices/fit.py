"""Whether pods that come to a node fit on its devices, beside those that stay there.

A share that stands on a known device stays on it. Of a share whose device nobody tells, it is assumed that it may be
any that is not held whole: it counts as a device of its own, or on every device that newcomers get a share of,
whichever leaves room. Whatever fits then fits wherever it stands:

- A share on every device takes at least what it really takes from each.
- An empty device taken away is the freest there is. Whatever fits on the others fits as well if a device that is less
  free is spared instead (the two change places).

Newcomers are packed as tightly as can be: who hands out devices is trusted to do the same, and the kubelet refuses
what it can not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

Amounts = tuple[int, ...]
"""What a share takes, or a device has, in each measure of the problem."""

_MOST_TRIES = 20_000  # partial packings; beyond it nothing is promised


class Standing(Struct, frozen=True):
    """The devices of a node and who stays there.

    `known` is what is taken of each device that has known shares; `unknown` are the shares that may stand anywhere;
    `whole` devices are taken whole.
    """

    devices: int
    capacity: Amounts  # of one device
    known: tuple[Amounts, ...] = ()
    unknown: tuple[Amounts, ...] = ()
    whole: int = 0

    @property
    def empty(self) -> int:
        """Devices that nobody is known to stand on; less than none where the node is too full already."""
        return self.devices - self.whole - len(self.known)


@lru_cache(maxsize=1 << 14)
def fits(standing: Standing, whole: int, shares: tuple[Amounts, ...]) -> bool:
    """Whether newcomers fit: `whole` devices, and shares (sorted, so that what is known is found again)."""
    unknown = sorted(standing.unknown, key=lambda share: _size(share, standing.capacity), reverse=True)
    for alone in range(len(unknown) + 1):  # the largest count as a device of their own
        left = standing.empty - alone - whole
        if left < 0:
            return False
        if whole and alone < len(unknown):
            continue  # a device that might have a share is not empty
        everywhere = _sum(unknown[alone:], len(standing.capacity))
        room = [_less(standing.capacity, everywhere)] * left
        room += [_less(_less(standing.capacity, taken), everywhere) for taken in standing.known]
        if not shares or _packs(shares, room, standing.capacity):
            return True
    return False


def _packs(shares: Sequence[Amounts], room: Sequence[Amounts], capacity: Amounts) -> bool:
    """Whether each share finds a device; the search is exact as long as it is short."""
    measures = range(len(capacity))
    if any(sum(share[m] for share in shares) > sum(max(0, free[m]) for free in room) for m in measures):
        return False
    order = sorted(shares, key=lambda share: (_size(share, capacity), share), reverse=True)
    failed: set[tuple[int, tuple[Amounts, ...]]] = set()

    def put(number: int, free: tuple[Amounts, ...]) -> bool:
        if number == len(order):
            return True
        if (number, free) in failed or len(failed) > _MOST_TRIES:
            return False
        share = order[number]
        for place in sorted(set(free)):  # the tightest first; equal devices are all alike
            if all(share[m] <= place[m] for m in measures):
                rest = list(free)
                rest.remove(place)
                if put(number + 1, tuple(sorted([*rest, _less(place, share)]))):
                    return True
        failed.add((number, free))
        return False

    return put(0, tuple(sorted(room)))


def _size(share: Amounts, capacity: Amounts) -> float:
    return max((amount / most for amount, most in zip(share, capacity, strict=True) if most), default=0.0)


def _sum(shares: Sequence[Amounts], measures: int) -> Amounts:
    return tuple(sum(share[m] for share in shares) for m in range(measures))


def _less(free: Amounts, taken: Amounts) -> Amounts:
    return tuple(amount - less for amount, less in zip(free, taken, strict=True))
