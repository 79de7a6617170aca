"""`stowage why trainingjob/NAME` for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stowage.cli.printing import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stowage.cli.job_answer import JobAnswer
    from stowage.decide.training.failure_story import FailureStory


def show(answer: JobAnswer) -> None:
    """Print an answer: how the job is, why it waits, then the story of its last failure.

    Names of images and reasons of containers are others' words, and may hold what moves a terminal's cursor.
    """
    out = console()
    for line in lines(answer):
        out.print("".join(char if char.isprintable() else " " for char in line), soft_wrap=True)


def lines(answer: JobAnswer) -> Iterator[str]:
    """The answer, line by line."""
    from stowage.decide.training.time_words import span

    since = f" for {span(answer.now - answer.since)}" if answer.since is not None else ""
    yield f"trainingjob {answer.job}: {answer.phase}{since}, epoch {answer.epoch}, attempt {answer.attempt}"
    yield from (f"  {line}" for line in _how_it_is(answer))
    if answer.failure is None:
        yield "nothing has failed"
        return
    yield from _story(answer.failure, answer.now)


def _how_it_is(answer: JobAnswer) -> Iterator[str]:
    from stowage.decide.training.job_announcements import one_line
    from stowage.decide.training.time_words import span
    from stowage_scheduler.counted import counted

    step = f"; step {answer.step}" if answer.step is not None else ""
    step += f", {answer.step_seconds:.2g} s each" if step and answer.step_seconds is not None else ""
    goodput = f"; goodput {answer.goodput:.3f}" if answer.goodput is not None else ""
    yield f"{answer.nodes} nodes ready{step}{goodput}"
    if answer.lost_seconds:
        lost = sorted(answer.lost_seconds.items(), key=lambda item: (-item[1], item[0]))
        yield "time lost: " + ", ".join(f"{cause} {span(seconds)}" for cause, seconds in lost)
    if answer.restarts:
        starts = (f"{_SCOPES.get(scope, scope)} ({counted(count, 'time')})" for scope, count in answer.restarts.items())
        yield f"started again: {', '.join(starts)}"
    if answer.phase in _TOLD and (answer.reason or answer.message):
        yield ": ".join(part for part in (answer.reason, one_line(answer.message, 600)) if part)
    elif answer.phase == "Recovering" and answer.failure is not None and not (answer.waiting or answer.seats):
        rest = one_line(answer.message.removeprefix(answer.failure.words), 600)  # why it recovers the story tells
        if rest:
            yield f"it waits: {rest}"
    yield from _waiting(answer)
    for note in answer.notes:
        yield f"note: {note}"
    if answer.help:
        yield f"what helps: {answer.help}"
    if answer.slow:
        yield "slow ranks (shown only: nobody is evicted for it):"
    for one in answer.slow:
        node = f" on node {one.node}" if one.node else ""
        times = f"steps {one.step_seconds:.3g} s, {one.wait_seconds:.3g} s of it waiting"
        yield f"  rank {one.rank}, seat {one.seat}{node}: {one.ratio:.2f} times the usual, {times}"


def _waiting(answer: JobAnswer) -> Iterator[str]:
    from stowage_scheduler.counted import counted

    if answer.waiting and answer.pod is not None:
        pod = answer.pod
        yield f"{counted(answer.waiting, 'pod has', 'pods have')} no node yet; the first is {pod.pod}"
        if pod.state == "Placeable":
            taken = counted(pod.moves, "move or eviction", "moves and evictions")
            yield f"  a plan places it on node {pod.node}, with {taken} in all"
        elif pod.state == "Pending":
            yield f"  it stays pending: {pod.reason}"
            yield f"  what would help: {pod.help}"
            for reason, count in sorted(pod.excluded.items(), key=lambda item: (-item[1], item[0])):
                yield f"  {count} of {counted(pod.nodes, 'node')}: {reason}"
        if pod.scheduler_says:
            yield f"  kube-scheduler: {pod.scheduler_says}"
        yield f"  more: kubectl stowage why pod/{pod.pod}"
    for seat in answer.seats:
        yield f"seat {seat.seat} on node {seat.node}: {seat.words}"


def _story(story: FailureStory, now: float) -> Iterator[str]:
    from stowage.decide.training.time_words import span

    where = f" on {story.where}" if story.where else ""
    how = f" ({story.how})" if story.how else ""
    yield f"last failure, {span(now - story.at)} ago: {story.event}{where}{how}"
    yield f"  it began at {_clock(story.at)} UTC, and was seen:"
    for one in story.seen:
        place = f" on {one.where}" if one.where else ""
        means = f" ({one.how})" if one.how else ""
        words = f": {one.words}" if one.words else ""
        yield f"    {_clock(one.at)} by {one.source}: {one.event}{place}{means}{words}"
    yield f"  whose fault: {_FAULT[story.domain.value]}"
    yield f"  decided: {story.action}, {story.done}"
    because = f", {story.because}" if story.because else ""
    yield f"  because: {story.reason}{because}"
    if story.rule:
        yield f"    rule: {story.rule}"
    for past in story.tried:
        yield f"    tried before, {span(story.at - past.at)} earlier: {past.action} for {past.event}"
    budget = story.budget
    yield f"    budget: {budget.used} of {budget.allowed} starts in {span(budget.window_seconds)} used"
    if story.words:
        yield f"  in words: {story.words}"
    for node, why in story.avoided.items():
        yield f"  new pods keep away from node {node}: {why}"
    if story.stages:
        times = ", ".join(f"{stage} {span(seconds)}" for stage, seconds in story.stages.items())
        yield f"  it took {span(story.total_seconds)}: {times}"
    if story.open_stage is not None:
        yield f"  under way: {story.open_stage}"
    recompute = story.stages.get("recompute")
    if story.from_step is not None and recompute is not None:
        again = f"{span(recompute)} of it for steps up to {story.from_step} done again"
        yield f"  lost: {span(story.total_seconds)}, {again}"


_TOLD = {"Failed", "Paused", "Succeeded", "Starting", "Resizing"}
"""Phases whose message is shown; that of the others is told by what else is shown of them."""
_SCOPES = {"Process": "all processes", "Container": "containers", "Node": "pods on other nodes"}
_FAULT = {
    "Workload": "the program's (Workload)",
    "Infrastructure": "the cluster's (Infrastructure)",
    "Unknown": "nothing tells (Unknown)",
}


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-5]
