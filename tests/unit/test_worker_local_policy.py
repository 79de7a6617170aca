from __future__ import annotations

import pytest

from stowage_worker.local_policy import Mistake, answer_to, mistakes_of
from stowage_worker.messages import Evidence


def raised(kind: str, step: int = 5, code: int = 1, rank: int = 0) -> Evidence:
    return Evidence("ProcessExited", 1, 0.0, rank=rank, code=code, error_type=kind, error_hash=kind, step=step)


def exited(code: int, step: int = 5) -> Evidence:
    return Evidence("ProcessExited", 1, 0.0, code=code, step=step)


KILLED = Evidence("ProcessExited", 1, 0.0, signal=9, step=5)
LOST = Evidence("SupervisorLost", 1, 0.0, seat="s1")
HANG = Evidence("Hang", 1, 0.0, step=5)


@pytest.mark.parametrize(
    ("earlier", "now", "code"),
    [
        pytest.param([], [raised("E")], None, id="an exception for the first time"),
        pytest.param([raised("E", code=3)], [raised("E", code=3)], 3, id="the same exception at the same step"),
        pytest.param([raised("E", 5)], [raised("E", 6)], None, id="at another step"),
        pytest.param([raised("E")], [raised("F")], None, id="another exception"),
        pytest.param([KILLED, raised("E")], [KILLED, raised("E")], None, id="killed twice: others' exceptions follow"),
        pytest.param([LOST, raised("E")], [LOST, raised("E")], None, id="a lost supervisor twice"),
        pytest.param([exited(4)], [exited(4)], 4, id="the same code at the same step"),
        pytest.param([exited(4, -1)], [exited(4, -1)], None, id="the same code, no steps told"),
        pytest.param([raised("E", -1)], [raised("E", -1)], 1, id="the same exception before any step"),
        pytest.param([HANG], [HANG], None, id="a hang twice"),
        pytest.param(
            [raised("E", code=3), raised("Reset", rank=1)],
            [raised("Reset", rank=1), raised("E", code=3)],
            1,
            id="who fails first in the second epoch gives the code",
        ),
        pytest.param(
            [raised("E", code=3), raised("ConnectionResetError", rank=1)],
            [raised("ConnectionResetError", rank=1), raised("E", code=3)],
            3,
            id="who lost a peer was not the reason",
        ),
    ],
)
def test_answers(earlier: list[Evidence], now: list[Evidence], code: int | None) -> None:
    answer = answer_to(now, frozenset(mistakes_of(earlier)), restarts=1, restarts_allowed=10)
    assert answer.code == code
    assert answer.reason


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        pytest.param([KILLED], 137, id="a signal, as a shell tells it"),
        pytest.param([LOST, exited(3)], 3, id="the first code there is"),
        pytest.param([LOST], 1, id="no code at all"),
        pytest.param([], 1, id="nothing known"),
    ],
)
def test_the_budget_ends(evidence: list[Evidence], code: int) -> None:
    assert answer_to(evidence, frozenset(), restarts=1, restarts_allowed=2).code is None
    answer = answer_to(evidence, frozenset(), restarts=2, restarts_allowed=2)
    assert answer.code == code
    assert "2 restarts" in answer.reason


def test_mistakes() -> None:
    assert set(mistakes_of([raised("E", 3), exited(4), exited(5, -1), HANG])) == {Mistake("E", 3), Mistake("code 4", 5)}
