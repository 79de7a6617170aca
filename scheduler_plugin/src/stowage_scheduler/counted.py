"""Numbers beside what they count, as people say them: `1 eviction`, `3 pods`, `64Gi`."""

from __future__ import annotations

_MEBIBYTE = 1 << 20
_STEP = 1 << 10
_UNITS = ("Mi", "Gi", "Ti", "Pi", "Ei")


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun in the right form.

    Args:
        count: how many.
        singular: the noun for one of them, with all words that follow the number.
        plural: the noun for any other number; empty: `singular` with an s.
    """
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def binary_bytes(amount_bytes: int) -> str:
    """An amount of bytes as a Kubernetes quantity, in the largest unit that needs no fraction: `64Gi`, `1536Mi`.

    What is no whole number of MiB is rounded up: that much is surely enough.
    """
    amount, unit = -(-amount_bytes // _MEBIBYTE), 0
    while amount and amount % _STEP == 0 and unit < len(_UNITS) - 1:
        amount, unit = amount // _STEP, unit + 1
    return f"{amount}{_UNITS[unit]}"
