"""How stories of the membership's rules begin and what they look at."""

from __future__ import annotations

from dataclasses import replace

from harness.training_model import Theatre
from stowage_worker.messages import HangRule
from stowage_worker.reports import phase_of

SEATS = ("s0", "s1", "s2")


def running(hang: HangRule | None = None) -> Theatre:
    """All three run epoch 1."""
    theatre = Theatre(SEATS)
    for seat in SEATS:
        theatre.connect(seat)
    theatre.command_next(SEATS)
    assert theatre.begin is not None
    if hang is not None:
        theatre.begin = replace(theatre.begin, hang=hang)
        theatre.state = replace(theatre.state, begin=theatre.begin)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"
    return theatre


def evidence(theatre: Theatre) -> list[tuple[str, str]]:
    return [(one.event, one.seat) for one in theatre.state.evidence.entries.values()]


def say(theatre: Theatre, seat: str, message: object) -> None:
    theatre.supervisors[seat].up.append(message)
    theatre.upward(seat)


def heard(theatre: Theatre, seat: str) -> list[type]:
    return [type(message) for message in theatre.supervisors[seat].down]
