"""`stowage why modelservice/NAME` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stowage.cli.printing import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stowage.cli.service_answer import DecisionStory, RoleStory, ServiceAnswer

_MOST_NUMBERS = 12
_MOST_GROUPS = 5


def show(answer: ServiceAnswer) -> None:
    """Print an answer: how the service is, then why each role has as many replicas as it has.

    Messages hold others' words, and may hold what moves a terminal's cursor.
    """
    out = console()
    for line in lines(answer):
        out.print("".join(char if char.isprintable() else " " for char in line), soft_wrap=True, markup=False)


def lines(answer: ServiceAnswer) -> Iterator[str]:
    """The answer, line by line."""
    from stowage.decide.training.time_words import span

    desired, ready = sum(one.desired for one in answer.roles), sum(one.ready for one in answer.roles)
    yield f"modelservice {answer.service}: {ready} of {desired} replicas ready"
    for kind, status, reason, message in answer.conditions:
        words = f": {message}" if message else ""
        if status != "True" or message:
            yield f"  {kind} {status}, {reason}{words}"
    if answer.attainment is not None:
        yield f"  {answer.attainment:.2%} of {answer.requests} requests met every target"
    if answer.cold_start_seconds is not None:
        median, most = answer.cold_start_seconds
        yield f"  a replica takes {span(median)} to start, nine of ten at most {span(most)}"
    if answer.signal_at is not None:
        yield f"  newest signal: {span(answer.now - answer.signal_at)} ago"
    if answer.help:
        yield f"  what helps: {answer.help}"
    for role in answer.roles:
        yield from _role(role, answer.now)


def _role(role: RoleStory, now: float) -> Iterator[str]:
    from stowage.decide.training.time_words import span

    parts = [f"{role.ready} ready"]
    told = (
        ("starting", role.starting),
        ("draining", role.draining),
        ("warm spares", role.spare),
        ("warm nodes", role.cached_nodes),
    )
    parts += [f"{count} {word}" for word, count in told if count]
    since = f", for {span(now - role.since)}" if role.since is not None else ""
    yield f"role {role.role}: {role.desired} replicas{since} ({', '.join(parts)})"
    if len(role.variants) > 1:
        for name, (desired, ready) in role.variants.items():
            yield f"  variant {name}: {ready} of {desired} ready"
    for group in role.groups[:_MOST_GROUPS]:
        times = "once" if group.restarts == 1 else f"{group.restarts} times in a row"
        ago = span(now - group.since)
        words = f"{group.reason}: {group.words}" if group.words else group.reason
        yield f"  replica {group.ordinal} of {group.variant} was made anew {times}, last {ago} ago; {words}"
    if len(role.groups) > _MOST_GROUPS:
        yield f"  {len(role.groups) - _MOST_GROUPS} more replicas were made anew"
    if role.mix is not None:
        used = [f"{count} {name} ({rate:g}/s each)" for name, (count, rate) in role.mix.variants.items() if count]
        rest = [f"{name} ({rate:g}/s each)" for name, (count, rate) in role.mix.variants.items() if not count]
        words = ", then ".join([", ".join(used), *rest] if used else rest)
        yield f"  mix of {span(now - role.mix.since)} ago, {role.mix.reason}: {words}"
    if role.reason:
        yield f"  because: {role.reason}" + (f", {role.words}" if role.words else "")
    if not role.decisions:
        yield "  nothing has been decided yet"
        return
    last, *earlier = role.decisions
    yield from _decision(last, now)
    for one in earlier:
        yield f"  before that, {span(now - one.at)} ago: from {one.before} to {one.after}, {one.reason}"


def _decision(one: DecisionStory, now: float) -> Iterator[str]:
    from stowage.decide.serving.service_shown import TIMES_SECONDS
    from stowage.decide.training.time_words import span

    by = f", as {one.recommender} asked" if one.recommender else ""
    change = f"from {one.before} to {one.after}" if one.before != one.after else f"to stay at {one.after}"
    yield f"  last decision, {span(now - one.at)} ago: {change}, {one.reason}{by}"
    if one.words:
        yield f"    in words: {one.words}"
    if one.recommendations:
        yield "    asked for: " + ", ".join(f"{who} {count}" for who, count in one.recommendations.items())
    if one.inputs:
        shown = list(one.inputs.items())[:_MOST_NUMBERS]
        yield "    numbers: " + ", ".join(f"{name} {value}" for name, value in shown)
    if one.valid_until is not None and one.valid_until + TIMES_SECONDS < now:  # times alone are written that late
        yield f"    nothing newer was told for {span(now - one.valid_until)}: does the operator run?"
