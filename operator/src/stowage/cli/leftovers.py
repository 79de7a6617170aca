"""What plans leave behind: active ones without a policy, and nodes kept for plans that do not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from stowage.act.taints import release
from stowage.api.names import RESERVED_TAINT
from stowage.cli.cluster import Document
from stowage.transport.api import Api

_ACTIVE = frozenset({"", "Approved", "Running"})
_MOST_NAMED = 10


class Result(StrEnum):
    """Outcome of a check."""

    PASSED = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Leftovers(Struct, frozen=True):
    """Names of plans that keep places though nobody carries them out; nodes that are kept for no plan, with its UID."""

    plans: tuple[str, ...]
    nodes: Mapping[str, str]


def leftovers(nodes: Iterable[Document], plans: Iterable[Document], policies: Iterable[Document]) -> Leftovers:
    """Find what was left behind.

    Args:
        nodes: as they were before `plans` was read: a taint is never older than its plan.
        plans: all of them.
        policies: all of them.
    """
    plans = list(plans)
    known = {name_of(policy) for policy in policies}
    stale = [name_of(plan) for plan in plans if phase_of(plan) in _ACTIVE and plan["spec"].get("policy") not in known]
    running = {
        plan["metadata"].get("uid")
        for plan in plans
        if phase_of(plan) in _ACTIVE and plan["spec"].get("steering") == "Bind"
    }
    kept = {
        name_of(node): str(taint.get("value", ""))
        for node in nodes
        for taint in node.get("spec", {}).get("taints") or ()
        if taint.get("key") == RESERVED_TAINT and taint.get("value") not in running
    }
    return Leftovers(tuple(sorted(stale)), kept)


async def remove(api: Api, found: Leftovers) -> tuple[str, ...]:
    """Take the taints of plans that do not run off their nodes.

    Returns:
        The nodes, by name.
    """
    for node, uid in found.nodes.items():
        await release(api, node, uid=uid, leads=lambda: True)
    return tuple(found.nodes)


def told(found: Leftovers, removed: Sequence[str], refused: str) -> tuple[Result, str]:
    """What to say about leftovers; `refused` says why nodes could not be read."""
    words = []
    if found.plans:
        words.append(f"active plans whose policy is gone: {', '.join(found.plans)}; end them with stowage abort PLAN")
    kept = sorted(set(found.nodes) - set(removed))
    if kept:
        words.append(f"nodes kept for plans that do not run: {_some(kept)}; stowage doctor --fix gives them back")
    if refused:
        words.append(refused)
    result = Result.WARNING if words else Result.PASSED
    if removed:
        words.append(f"given back: {_some(removed)}")
    return result, "; ".join(words) or "none"


def name_of(document: Document) -> str:
    """metadata.name."""
    return str(document["metadata"]["name"])


def phase_of(plan: Document) -> str:
    """status.phase, empty before there is one."""
    return str(plan.get("status", {}).get("phase") or "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (" …" if len(names) > _MOST_NAMED else "")
