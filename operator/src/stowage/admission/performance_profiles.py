"""Checks of a PerformanceProfile, beyond what its schema and its CEL rules hold."""

from __future__ import annotations

from collections.abc import Iterator

from stowage.admission.verdict import Problem
from stowage.api.performance_profile import PerformanceProfile
from stowage.decide.serving.profile_resource import performance_of

_SLOW_SECONDS = 5.0
"""Nobody waits so long for one token, or for the first of a short prompt: it is a mistake of the unit."""
_SHORT_PROMPT = 256
_FAR = 1.25
"""Rows that were moved by so much were not noise."""


def problems(profile: PerformanceProfile) -> tuple[Problem, ...]:
    """What no schema sees: of all numbers together."""
    try:
        performance_of(profile.spec)
    except ValueError as error:
        return (Problem("spec", "its numbers together", str(error)),)
    return ()


def warnings(profile: PerformanceProfile) -> tuple[str, ...]:
    """What is most likely not meant of a profile without problems."""
    return (*_by_its_rows(profile), *_by_its_pace(profile))


def _by_its_rows(profile: PerformanceProfile) -> Iterator[str]:
    """Steps never get faster with more work: rows that say so are evened out, and that is told where it is much."""
    rows, curves = profile.spec.measured, performance_of(profile.spec)
    for number, one in enumerate(rows.prefill if rows is not None else ()):
        seconds = float(one.milliseconds) / 1000.0
        if _differ(seconds, curves.prefill_seconds(one.tokens)):
            yield (
                f"spec.measured.prefill[{number}].milliseconds = {one.milliseconds}: the rows around it give "
                f"{curves.prefill_seconds(one.tokens) * 1000.0:.3g}, which is taken"
            )
    for number, step in enumerate(rows.decode if rows is not None else ()):
        seconds, taken = float(step.milliseconds) / 1000.0, curves.decode_step_seconds(step.running, step.kv_tokens)
        if _differ(seconds, taken):
            yield (
                f"spec.measured.decode[{number}].milliseconds = {step.milliseconds}: the rows around it give "
                f"{taken * 1000.0:.3g}, which is taken"
            )
    if profile.spec.max_batched_tokens > profile.spec.kv_cache_tokens:
        yield (
            f"spec.maxBatchedTokens = {profile.spec.max_batched_tokens}: the KV cache holds "
            f"{profile.spec.kv_cache_tokens} tokens"
        )


def _by_its_pace(profile: PerformanceProfile) -> Iterator[str]:
    curves = performance_of(profile.spec)
    for what, seconds in (
        (f"a prompt of {_SHORT_PROMPT} tokens", curves.prefill_seconds(_SHORT_PROMPT)),
        ("a token of one request alone", curves.decode_step_seconds(1, 0)),
    ):
        if seconds > _SLOW_SECONDS:
            yield f"spec: {what} takes {seconds:.3g} s by these numbers; they must be in milliseconds"


def _differ(measured: float, taken: float) -> bool:
    return max(measured, taken) > _FAR * min(measured, taken)
