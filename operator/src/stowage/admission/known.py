"""What a check may know beside the object itself."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from stowage.api.packing_policy import PackingPolicy
from stowage.decide.training.promql_rules import PromqlRule
from stowage_scheduler.cluster import Snapshot


class Known(Struct, frozen=True):
    """The objects around the one that is judged.

    Attributes:
        policies: by name, read for this very question, because an object is refused for what they lack; None: they
            could not be read. For a plan the one that it names is enough.
        unread: why `policies` is None.
        snapshot: the cluster as it was last seen, good for warnings only; None: not all of it has been seen yet.
        promql_rules: those of the operator's settings, by name; None: they are not known.
    """

    policies: Mapping[str, PackingPolicy] | None = None
    unread: str = "not asked for"
    snapshot: Snapshot | None = None
    promql_rules: Mapping[str, PromqlRule] | None = None
