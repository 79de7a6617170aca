"""Short ways to say what a TrainingJob looks like and what was seen of it."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.facts import Budget, Decision, Evidence, History, JobFacts, Recovery, SeatFacts
from stowage.decide.training.recovery import decide_recovery
from stowage_scheduler.cluster import Snapshot
from unit.builders import NOW, node, snapshot

EPOCH = 7
EPOCH_AT = NOW - 600.0
SEEN_AT = NOW - 5.0
BUDGET = Budget(restarts=10, window_seconds=3600.0)
ALL_NODES = tuple(f"n{number}" for number in range(20))


def seat(number: int, **fields: Any) -> SeatFacts:
    """A member that runs on the node of its number."""
    usual: dict[str, Any] = {
        "seat": f"s{number}",
        "pod_uid": f"uid-of-s{number}",
        "pod_name": f"train-s{number}-1",
        "node": f"n{number}",
        "ready": True,
        "connected": True,
        "member": True,
        "started_at": EPOCH_AT,
    }
    return SeatFacts(**{**usual, **fields})


def spare(number: int, **fields: Any) -> SeatFacts:
    return seat(number, **{"spare": True, "member": False, **fields})


def job(*seats: SeatFacts, **fields: Any) -> JobFacts:
    """Four seats on four nodes in epoch 7; given seats take the place of those of their name, or come besides."""
    standing = {f"s{number}": seat(number) for number in range(4)} | {one.seat: one for one in seats}
    usual: dict[str, Any] = {
        "key": "team/train",
        "epoch": EPOCH,
        "attempt": 3,
        "size": 4,
        "sizes": (2, 4, 8),
        "rules": (),
        "budget": BUDGET,
        "seats": tuple(standing.values()),
        "epoch_at": EPOCH_AT,
    }
    return JobFacts(**{**usual, **fields})


def saw(event: Event, seat: int | None = None, **fields: Any) -> Evidence:
    """Evidence of the current epoch, five seconds ago."""
    usual: dict[str, Any] = {"at": SEEN_AT, "source": "coordinator", "epoch": EPOCH}
    if seat is not None:
        usual["seat"] = f"s{seat}"
    return Evidence(event, **{**usual, **fields})


def exited(seat: int = 1, code: int = 1, **fields: Any) -> Evidence:
    return saw(Event.PROCESS_EXITED, seat, code=code, rank=seat, **fields)


def lost_node(name: str, **fields: Any) -> Evidence:
    return saw(Event.NODE_LOST, None, **{"node": name, "source": "node", "epoch": None, "name": "Ready", **fields})


def of_node(event: Event, name: str, node: str, **fields: Any) -> Evidence:
    return saw(event, None, **{"node": node, "source": "node", "epoch": None, "name": name, **fields})


def tried(action: Action, *, epoch: int, event: Event = Event.PROCESS_EXITED, **fields: Any) -> Recovery:
    """A recovery of seat s1 on n1, a minute per epoch ago."""
    usual: dict[str, Any] = {"at": NOW - 60.0 * (EPOCH - epoch), "domain": Domain.UNKNOWN, "seat": "s1", "node": "n1"}
    return Recovery(event=event, action=action, epoch=epoch, **{**usual, **fields})


def cluster(*, lost: tuple[str, ...] = (), gone: tuple[str, ...] = (), names: tuple[str, ...] = ALL_NODES) -> Snapshot:
    return snapshot(*(node(name, ready=name not in lost) for name in names if name not in gone))


def decided(
    *evidence: Evidence,
    job_facts: JobFacts | None = None,
    history: History | None = None,
    snapshot: Snapshot | None = None,
    now: float = NOW,
) -> Decision:
    return decide_recovery(job_facts or job(), evidence, history or History(), snapshot or cluster(), now)


def after(facts: JobFacts, decision: Decision, now: float) -> JobFacts:
    """The job once the decision is in its status: nothing was carried out yet but that."""
    if decision.action in {Action.PAUSE, Action.FAIL}:
        return structs.replace(facts, phase=JobPhase.PAUSED if decision.action is Action.PAUSE else JobPhase.FAILED)
    begins = decision.action is not Action.IGNORE

    def changed(one: SeatFacts) -> SeatFacts:
        if one.seat in decision.vacate:
            return SeatFacts(one.seat, spare=one.spare)
        if one.seat in decision.claimed_spares:
            return structs.replace(one, spare=False, member=True)
        return one

    return structs.replace(
        facts,
        epoch=facts.epoch + begins,
        attempt=facts.attempt + begins,
        epoch_at=now if begins else facts.epoch_at,
        size=decision.size or facts.size,
        seats=tuple(changed(one) for one in facts.seats),
    )
