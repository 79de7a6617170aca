"""Kubernetes quantities (`500m`, `1.5Gi`, `2e3`) as exact integers.

Inside, a quantity is a number of nanos (10⁻⁹ of its unit), the finest that Kubernetes keeps, so that
sums over containers are exact and are rounded once, at the end, as kube-scheduler does it.
Source: `k8s.io/apimachinery/pkg/api/resource`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from stowage_scheduler.cluster import CPU

LARGEST = 2**53
"""Most that any amount may be in its own unit; more is taken for a mistake."""

_FORM = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,20}))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LONGEST_TEXT = 64
_WIDEST_EXPONENT = 128  # further out a number of 64 digits is below a nano or beyond every bound
_NANO_DIGITS = 9
_NANOS: int = 10**9
_NANOS_PER_MILLI = 10**6


class QuantityError(ValueError):
    """A text that is no quantity, or one out of bounds; the message is the rule that it breaks."""


@lru_cache(maxsize=65536)
def parse_quantity(value: str | float) -> int:
    """A quantity in nanos; what is finer than a nano is rounded up, as Kubernetes does.

    Raises:
        QuantityError: if it is malformed, negative, or more than `LARGEST`.
    """
    text = value if isinstance(value, str) else repr(value)
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if found is None or not (found[2] or found[3]):
        raise QuantityError("it must be a Kubernetes quantity such as 500m, 2 or 1.5Gi")
    sign, whole, fraction, suffix, exponent = found.groups(default="")
    digits = int(whole + fraction)
    if digits == 0:
        return 0
    if sign == "-":
        raise QuantityError("it must not be negative")
    nanos = _scaled(digits, len(fraction), suffix, exponent)
    if nanos > LARGEST * _NANOS:
        raise QuantityError("it must be at most 2^53")
    return nanos


def to_units(nanos: int) -> int:
    """Whole units, rounded up (Kubernetes' `Value`)."""
    return -(-nanos // _NANOS)


def to_milli(nanos: int) -> int:
    """Thousandths of the unit, rounded up (Kubernetes' `MilliValue`)."""
    return -(-nanos // _NANOS_PER_MILLI)


def in_own_unit(resource: str, nanos: int) -> int:
    """The amount in the unit of `cluster.Resources`: milli-CPU for CPU, whole units for all else.

    Raises:
        QuantityError: if it is more than `LARGEST`.
    """
    amount = to_milli(nanos) if resource == CPU else to_units(nanos)
    if amount > LARGEST:
        raise QuantityError("it must be at most 2^53 (milli-CPU, bytes or pieces)")
    return amount


def _scaled(digits: int, fraction_digits: int, suffix: str, exponent: str) -> int:
    """`digits` · 10^-fraction_digits · suffix or exponent, in nanos, rounded up."""
    if suffix in _BINARY:
        return _divided_up((digits << _BINARY[suffix]) * _NANOS, fraction_digits)
    power = int(exponent) if exponent else _DECIMAL[suffix]
    power = max(-_WIDEST_EXPONENT, min(_WIDEST_EXPONENT, power)) + _NANO_DIGITS - fraction_digits
    if power < 0:
        return _divided_up(digits, -power)
    factor: int = 10**power
    return digits * factor


def _divided_up(number: int, digits: int) -> int:
    """`number` / 10^digits, rounded up."""
    divisor: int = 10**digits
    return -(-number // divisor)
