"""The trace of a decision: one word that its log records, its events and its plan have in common."""

from __future__ import annotations

import hashlib

LENGTH = 16


def trace_id(policy_uid: str, fingerprint: str, now: float) -> str:
    """The trace of the decision for a policy that begins now.

    The same decision, replayed from the same facts and the same instant, has the same trace.

    Args:
        policy_uid: whom it is made for.
        fingerprint: of the facts it is made from.
        now: seconds since the epoch.
    """
    return hashlib.sha256(f"{policy_uid}/{fingerprint}/{now:.6f}".encode()).hexdigest()[:LENGTH]
