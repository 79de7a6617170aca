"""The slow loop over mixes of variants: when it asks, one at a time, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stowage.decide.serving.capacity import Shape, Targets
from stowage.decide.serving.plan_serving import Role
from stowage.decide.serving.request_sizes import Lengths
from stowage.decide.serving.role_mix import MixAnswer, MixOutcome, MixQuestion, Option
from stowage.run.serving_mix import Mixes
from stowage.run.solver import SolverDied
from unit.serving_services import NOW, service
from unit.serving_views import PERFORMANCE

OPTION = Option("l40s", PERFORMANCE, 1_100_000, 1.0, present=2, most=4)
QUESTION = MixQuestion(
    Role.UNIFIED, Targets(2.0, 0.1), Shape(500.0, 100.0), (OPTION, replace(OPTION, name="h100")), 2, "l40s", 1.0, 1, 9
)
SHORT = replace(QUESTION, options=(replace(OPTION, most=0), QUESTION.options[1]))
ANSWER = MixAnswer(MixOutcome.KEPT)


class Theatre:
    def __init__(self) -> None:
        self.now = NOW
        self.asked: list[MixQuestion] = []
        self.rung: list[str] = []
        self.under_way = self.most_at_once = 0
        self.fails = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.mixes = Mixes(self._solve, self._measure, self.rung.append, lambda: self.now)

    async def _measure(self, *_: object) -> tuple[Lengths | None, Lengths | None]:
        return Lengths(100, 800.0, 0.7), None

    async def _solve(self, question: MixQuestion) -> MixAnswer:
        self.asked.append(question)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await self.goes_on.wait()
        self.under_way -= 1
        if self.fails:
            raise SolverDied("killed")
        return ANSWER

    async def ask(self, question: MixQuestion = QUESTION, after: float = 0.0) -> int:
        """How many questions have been asked so far."""
        self.now += after
        self.mixes.ask(service(), {"unified": question})
        await self.mixes.settled()
        return len(self.asked)


async def test_an_answer_rings_and_stays_until_it_is_used() -> None:
    theatre = Theatre()
    assert await theatre.ask() == 1
    assert theatre.rung == [service().key]
    assert theatre.asked[0].shape == Shape(800.0, 100.0, 0.7, 0.0)
    found = theatre.mixes.of(service())
    assert found == theatre.mixes.of(service()) == {"unified": ANSWER}
    theatre.mixes.used(service(), found)
    assert not theatre.mixes.of(service())


@pytest.mark.parametrize(
    ("question", "after", "count"),
    [
        pytest.param(QUESTION, 299.0, 1, id="not again within five minutes"),
        pytest.param(QUESTION, 300.0, 2, id="again after five minutes"),
        pytest.param(replace(QUESTION, replicas=7, peak=2.0), 60.0, 1, id="nor because the load changes"),
        pytest.param(
            replace(QUESTION, options=(replace(OPTION, most=0), OPTION)), 60.0, 2, id="but when stock changes"
        ),
        pytest.param(replace(QUESTION, targets=Targets(1.0, 0.1)), 60.0, 2, id="or a target"),
        pytest.param(replace(QUESTION, targets=Targets(1.0, 0.1)), 5.0, 1, id="and not at once again"),
    ],
)
async def test_when_it_is_asked_again(question: MixQuestion, after: float, count: int) -> None:
    theatre = Theatre()
    await theatre.ask()
    assert await theatre.ask(question, after) == count


async def test_a_thousand_services_ask_one_after_the_other_and_nobody_waits() -> None:
    theatre = Theatre()
    theatre.goes_on.clear()
    for number in range(1000):
        one = service()
        one = one.model_copy(update={"metadata": one.metadata.model_copy(update={"uid": f"uid-{number}"})})
        theatre.mixes.ask(one, {"unified": QUESTION})
    await asyncio.sleep(0)
    theatre.goes_on.set()
    await theatre.mixes.settled()
    assert (len(theatre.asked), theatre.most_at_once) == (1000, 1)


async def test_a_worker_that_dies_leaves_all_as_it_is() -> None:
    theatre = Theatre()
    theatre.fails = True
    await theatre.ask()
    assert not theatre.mixes.of(service())
    theatre.fails = False
    assert await theatre.ask(after=300.0) == 2


async def test_what_is_forgotten_is_asked_no_more() -> None:
    theatre = Theatre()
    theatre.goes_on.clear()
    theatre.mixes.ask(service(), {"unified": QUESTION})
    await asyncio.sleep(0)
    theatre.mixes.forget(service().metadata.uid or "")
    theatre.mixes.clear()
    await theatre.mixes.settled()
    assert not theatre.mixes.of(service())
