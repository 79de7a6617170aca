"""What of a stored policy is not followed: settings without effect yet, and fields of other versions."""

from __future__ import annotations

from stowage.api.packing_policy import PackingPolicy


def not_followed_in(policy: PackingPolicy) -> str:
    """What the policy asks for in vain, for its people; empty where there is nothing."""
    parts = (
        ("not acted on yet", policy.spec.not_supported()),
        ("unknown to this version", policy.unread),
    )
    return "; ".join(f"{words}: {', '.join(found)}" for words, found in parts if found)
