"""The roles without which a service answers nobody."""

from __future__ import annotations

from collections.abc import Collection

from stowage.api.model_service_role import DECODE, PREFILL


def needed_roles(names: Collection[str]) -> tuple[str, ...]:
    """The first one, and the other half of a pair.

    Args:
        names: of the roles, in the spec's order.
    """
    first = next(iter(names))
    return (PREFILL, DECODE) if first in {PREFILL, DECODE} and {PREFILL, DECODE} <= {*names} else (first,)
