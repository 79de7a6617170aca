"""Before lengths of requests are known: what runs says how many replicas are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stowage.decide.serving.decision import Recommender
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.settings import Role, Settings
from unit.serving_views import PERFORMANCE, view


@pytest.mark.parametrize(
    ("running", "waiting", "completed", "role", "rises"),
    [
        pytest.param(2, 0, False, Role.UNIFIED, False, id="small requests: few run, though many come"),
        pytest.param(400, 0, False, Role.UNIFIED, True, id="they fill more than one replica"),
        pytest.param(2, 20, False, Role.UNIFIED, True, id="a queue is proof enough"),
        pytest.param(2, 0, True, Role.UNIFIED, True, id="lengths are known: they are counted on"),
        pytest.param(2, 0, False, Role.PREFILL, True, id="prompts alone: their lengths are known as they come"),
    ],
)
def test_nothing_rises_by_assumed_lengths_alone(
    running: int, waiting: int, completed: bool, role: Role, rises: bool
) -> None:
    settings = Settings(PERFORMANCE, role=role, recommenders=(Recommender.SLO, Recommender.FORECAST))
    seen = view(60.0, ready=1, seconds=30.0, waiting=waiting, prompt_tokens=2000)
    scrapes = tuple(
        replace(
            one,
            running=running,
            completed=one.completed if completed else 0,
            generated_tokens=one.generated_tokens if completed else 0,
        )
        for one in seen.scrapes
    )
    decision, _ = decide(replace(seen, scrapes=scrapes), settings, Memory())
    assert (decision.to_replicas > 1) == rises, decision
