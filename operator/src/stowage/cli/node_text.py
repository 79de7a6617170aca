"""`stowage why node/NAME` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stowage.cli.printing import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stowage.cli.node_answer import Keeper, NodeAnswer, PodLine, Stays


def show(given: NodeAnswer) -> None:
    """Print an answer: whether the node can be emptied, what is to be known of it, then its pods."""
    from stowage.cli.drain_answer import sentence
    from stowage.cli.plan import print_rows

    out = console()
    out.print(sentence(given.drain), soft_wrap=True)
    for line in _facts(given):
        out.print(f"  {line}", soft_wrap=True)
    print_rows(out, ("pod", "priority", "asks for", "in plans", "in a drain"), [_row(one) for one in given.pods])
    why = [(one.pod, *_because(one)) for one in given.pods if one.in_plans is not None or one.in_drain is not None]
    print_rows(out, ("stays", "because", "would help"), why)


def _facts(given: NodeAnswer) -> Iterator[str]:
    from stowage.cli.node_answer import taints
    from stowage.cli.top import share
    from stowage_scheduler.counted import counted

    use, node = given.use, given.node
    cpu = share(use.cpu_requested_milli, use.cpu_allocatable_milli, 1000, " cores")
    memory = share(use.memory_requested_bytes, use.memory_allocatable_bytes, 1 << 30, " GiB")
    yield f"{counted(use.pods, 'pod')}, requested: {cpu}, {memory}"
    if use.gpu_allocatable:
        shares = f" + {use.gpu_shared_milli / 1000:.1f} in shares" if use.gpu_shared_milli else ""
        useless = f"a typical GPU pod could not use {use.gpu_unusable:.1f} of them"
        yield f"GPUs: {use.gpu_requested} of {use.gpu_allocatable} requested{shares}; {use.gpu_free} free, {useless}"
    state = ["Ready" if node.ready else "not Ready", *(["cordoned"] if node.unschedulable else [])]
    yield f"{', '.join(state)}; taints: {', '.join(taints(node)) or 'none'}"
    if given.holder is None:
        yield "no policy holds it: plans neither send pods here nor move any from here"
    else:
        paused = ", paused" if given.holder.paused else ""
        yield f"policy {given.holder.name} holds it (mode {given.holder.mode}{paused})"
    if given.rivals:
        yield f"selected too, without effect, by {', '.join(given.rivals)}"
    for one in given.keepers:
        yield _keeper(one)
    if given.unreadable:
        yield f"{counted(given.unreadable, 'pod')} here can not be read: plans send nobody here"


def _keeper(one: Keeper) -> str:
    from stowage_scheduler.counted import counted

    if one.plan is None:
        return f"kept by the plan of UID {one.uid} (its taint)"
    arriving = counted(one.arriving, "pod is", "pods are")
    phase = f" ({one.phase})" if one.phase else ""
    return f"kept by plan {one.plan}{phase}: {arriving} to land here, {one.leaving} to leave"


def _row(one: PodLine) -> tuple[str, ...]:
    from stowage_scheduler.explain.words import amounts

    leaves = f"goes to {one.to}" if one.to is not None else "leaves"
    return (
        one.pod,
        str(one.priority),
        amounts(one.requests),
        _word(one.in_plans, "may move"),
        _word(one.in_drain, leaves),
    )


def _word(stays: Stays | None, otherwise: str) -> str:
    return otherwise if stays is None else f"stays: {stays.reason}"


def _because(one: PodLine) -> tuple[str, str]:
    """Why a pod stays, each reason once; and what would help a drain."""
    words = dict.fromkeys(stays.words for stays in (one.in_plans, one.in_drain) if stays is not None)
    return "; ".join(words), one.in_drain.help if one.in_drain is not None else ""
