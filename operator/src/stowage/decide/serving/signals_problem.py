"""What is wrong with the signals of a role, in words for its condition: who says nothing, and what is not said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.signals_role import RoleSignals, Rules

MAX_NAMED: Final = 3

Problem = tuple[ServiceReason, str]


def problem_of(
    known: RoleSignals, due: Collection[str], rules: Rules, words: Mapping[str, str], now: float
) -> Problem | None:
    """The first of: pods without series, pods whose samples are old, impossible numbers, series that are not there.

    Args:
        known: of the role.
        due: names of pods that have been ready for long enough to have been scraped.
        rules: how samples are taken.
        words: by what names series go, for each gauge of a sample and each counter of `Scrape`.
        now: seconds since 1970.

    Returns:
        None where each of these pods says how it is.
    """
    unseen = [pod for pod in due if pod not in known.pods]
    if unseen:
        return ServiceReason.SIGNALS_MISSING, f"Prometheus has no series of {_named(unseen)}"
    seen = {pod: known.pods[pod] for pod in due}
    ages = {pod: now - one.newest.at for pod, one in seen.items()}
    old = [pod for pod, age in ages.items() if age > rules.stale_after_seconds]
    if old:
        oldest = max(ages[pod] for pod in old)
        return ServiceReason.SIGNALS_STALE, f"the newest sample of {_named(old)} is up to {oldest:.0f} s old"
    unsound = {pod: one.newest.unsound for pod, one in seen.items() if one.newest.unsound}
    if unsound:
        series = sorted({name for names in unsound.values() for name in names})
        return (
            ServiceReason.SIGNALS_CONTRADICTORY,
            f"{_named(series)} of {_named(list(unsound))} cannot be: negative or no number",
        )
    absent: dict[str, list[str]] = {}
    for pod, one in seen.items():
        gauges = [name for name in ("waiting", "running") if getattr(one.newest, name) is None]
        for name in (*gauges, *one.lacking(rules.counting)):
            absent.setdefault(name, []).append(pod)
    if absent:
        told = "; ".join(f"{words.get(name, name)} of {_named(pods)}" for name, pods in sorted(absent.items()))
        return ServiceReason.SIGNALS_MISSING, f"Prometheus has no {told}"
    return None


def _named(names: Collection[str]) -> str:
    """The first few, and how many more there are."""
    some = sorted(names)
    more = len(some) - MAX_NAMED
    return ", ".join(some[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
