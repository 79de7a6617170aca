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

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

Amounts = tuple[int, ...]
"""What a share takes, or a device has, in each measure of the problem."""

_MOST_TRIES = 2_000  # partly filled devices, for each device of the node; beyond it nothing is promised


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
    usable = sorted(free for free in room if min(free, default=0) >= 0)  # a device that is too full takes nobody
    if any(
        sum(column) > free for column, free in zip(zip(*shares, strict=True), _sum(usable, len(capacity)), strict=True)
    ):
        return False
    order = sorted(shares, key=lambda share: (_size(share, capacity), share), reverse=True)
    return _best_fit(order, usable) or _Filling(order, usable).succeeds()


def _best_fit(order: Iterable[Amounts], room: Iterable[Amounts]) -> bool:
    """Whether each share in turn finds a device if it takes the tightest one."""
    left = list(room)
    for share in order:
        fitting = [device for device in left if _holds(device, share)]
        if not fitting:
            return False
        tightest = min(fitting)
        left[left.index(tightest)] = _less(tightest, share)
    return True


class _Filling:
    """Device by device, each as full as can be: a share that still fits there may as well be there.

    Shares that are alike are one kind and only counted. What the devices have free in all, beyond what the shares take,
    is all that may be wasted; where everything is nearly full that leaves few ways (bin completion; Korf, AAAI 2002).
    """

    def __init__(self, order: Sequence[Amounts], room: Sequence[Amounts]) -> None:
        """Take shares, large ones first, and what devices have free, the tightest first."""
        kinds = Counter(order)
        self.kinds = tuple(kinds)
        self.counts = tuple(kinds.values())
        self.room = room
        measures = len(room[0]) if room else 0
        self.spare = _less(_sum(room, measures), _sum(order, measures))
        self.failed: set[tuple[int, tuple[int, ...]]] = set()
        self.tries = 0
        self.most = _MOST_TRIES * max(2, len(room))

    def succeeds(self) -> bool:
        """Whether a way was found."""
        return self._from(0, self.counts, self.spare)

    def _from(self, device: int, counts: tuple[int, ...], spare: Amounts) -> bool:
        """Whether devices from this one on hold so many of each kind."""
        if not any(counts):
            return True
        if device == len(self.room) or (device, counts) in self.failed:
            return False
        alike = self.room[device] == self.room[-1]  # then it may be the one that has the largest share
        for left, wasted in self._ways(0, counts, self.room[device], spare, must=alike):
            if self._from(device + 1, left, _less(spare, wasted)):
                return True
        self.failed.add((device, counts))
        return False

    def _ways(
        self, kind: int, counts: tuple[int, ...], free: Amounts, spare: Amounts, *, must: bool
    ) -> Iterator[tuple[tuple[int, ...], Amounts]]:
        """Ways to fill a device with this kind and smaller ones: what is left of each kind, and what is wasted."""
        self.tries += 1
        if self.tries > self.most:
            return
        while kind < len(counts) and not (counts[kind] and _holds(free, self.kinds[kind])):
            if counts[kind] and must:
                return  # the largest has no place
            kind += 1
        if kind == len(counts):
            fits_more = any(count and _holds(free, share) for count, share in zip(counts, self.kinds, strict=True))
            if not fits_more and _holds(spare, free):
                yield counts, free
            return
        share = self.kinds[kind]
        room = [have // asked for have, asked in zip(free, share, strict=True) if asked]
        most = min([counts[kind], *room])
        for taken in range(most, -1 if not must else 0, -1):
            rest = tuple(have - taken * asked for have, asked in zip(free, share, strict=True))
            left = (*counts[:kind], counts[kind] - taken, *counts[kind + 1 :])
            yield from self._ways(kind + 1, left, rest, spare, must=False)


def _holds(free: Amounts, share: Amounts) -> bool:
    return all(amount <= have for amount, have in zip(share, free, strict=True))


def _size(share: Amounts, capacity: Amounts) -> float:
    return max((amount / most for amount, most in zip(share, capacity, strict=True) if most), default=0.0)


def _sum(shares: Sequence[Amounts], measures: int) -> Amounts:
    return tuple(sum(share[m] for share in shares) for m in range(measures))


def _less(free: Amounts, taken: Amounts) -> Amounts:
    return tuple(amount - less for amount, less in zip(free, taken, strict=True))
