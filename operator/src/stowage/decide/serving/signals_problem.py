"""What is wrong with the signals of a role, in words for its condition: who says nothing, and what is not said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.signals_role import RoleSignals, Rules

MAX_NAMED: Final = 3
SELDOM_SECONDS: Final = 30.0
"""Between two samples: a minute, over which rates are, then has less than two."""
_JITTER_SECONDS: Final = 0.5
"""By which a scrape is early or late."""

Problem = tuple[ServiceReason, str]


def problem_of(
    known: RoleSignals, due: Collection[str], rules: Rules, words: Mapping[str, str], now: float
) -> Problem | None:
    """The first of: pods without series, pods whose samples are old, impossible numbers, series that are not there.

    All of these make `distrust` miss a target, so that nothing falls.

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
    wrong: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for pod, one in seen.items():
        for name in ("waiting", "running"):
            if getattr(one.newest, name) is None:
                (wrong if one.newest.unsound else absent).setdefault(name, []).append(pod)
        for name in one.lacking(rules.counting):
            absent.setdefault(name, []).append(pod)
    if wrong:
        return ServiceReason.SIGNALS_CONTRADICTORY, f"negative, or no number: {_told(wrong, words)}"
    if absent:
        return ServiceReason.SIGNALS_MISSING, f"Prometheus has no {_told(absent, words)}"
    return None


def wanting(known: RoleSignals, ready: Collection[str], wanted: Collection[str], words: Mapping[str, str]) -> str:
    """In words, what is wished for and is not there, in replicas that have ended requests; empty: nothing.

    Args:
        known: of the role.
        ready: names of its pods.
        wanted: histograms of `Scrape`, and `kv_share`.
        words: by what names series go.
    """
    pods = [known.pods[pod] for pod in ready if pod in known.pods]
    busy = [one for one in pods if any(name == "completed" and value > 0 for (name, _), value in one.values.items())]
    if not busy:
        return ""
    seen = {name for one in busy for name, _ in one.rows}
    if any(one.newest.kv_share is not None or one.newest.kv_used is not None for one in busy):
        seen.add("kv_share")
    lost = sorted(words.get(name, name) for name in wanted if name not in seen)
    return f"no replica has {'; '.join(lost)}" if lost else ""


def seldom(known: RoleSignals, ready: Collection[str]) -> str:
    """In words, that replicas are scraped too seldom for rates over a minute; empty: they are not.

    Args:
        known: of the role.
        ready: names of its pods.
    """
    every = [one.every_seconds for pod in ready if (one := known.pods.get(pod)) and one.every_seconds is not None]
    if not every or min(every) <= SELDOM_SECONDS + _JITTER_SECONDS:
        return ""
    return (
        f"samples come every {min(every):.0f} s: the recommenders Slo and Forecast need one every "
        f"{SELDOM_SECONDS:.0f} s at least, and without them nothing falls"
    )


def _told(found: Mapping[str, Collection[str]], words: Mapping[str, str]) -> str:
    return "; ".join(f"{words.get(name, name)} of {_named(pods)}" for name, pods in sorted(found.items()))


def _named(names: Collection[str]) -> str:
    """The first few, and how many more there are."""
    some = sorted(names)
    more = len(some) - MAX_NAMED
    return ", ".join(some[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
