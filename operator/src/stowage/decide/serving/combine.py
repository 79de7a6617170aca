"""One number of replicas from several recommendations: any of them raises it, all together lower it."""

from __future__ import annotations

from collections.abc import Sequence

from stowage.decide.serving.decision import Recommendation


def combine(recommendations: Sequence[Recommendation]) -> tuple[Recommendation, Recommendation] | None:
    """The recommendation that needs most, and the one that holds the count up the most; the first among equals.

    None: nobody recommends anything.
    """
    if not recommendations:
        return None
    needs = max(recommendations, key=lambda one: one.needed)
    holds = max(recommendations, key=lambda one: one.enough)
    return needs, holds
