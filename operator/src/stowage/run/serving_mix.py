"""The slow loop of served models: mixes of variants, asked for beside the passes over services, one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from msgspec import Struct

from stowage.api.model_service import ModelService
from stowage.decide.serving.request_sizes import Lengths, shape_of
from stowage.decide.serving.role_mix import MixAnswer, MixQuestion
from stowage.run.solver import SolverError

EVERY_SECONDS: Final = 300.0
CHANGED_SECONDS: Final = 10.0
"""Where the spec, profiles or what is in stock changed, so long after the last time."""
AT_ONCE: Final = 1
"""Of all services together: a plan for pods that wait never stands behind more than one of them."""

Solve = Callable[[MixQuestion], Awaitable[MixAnswer]]
Measure = Callable[[ModelService, str], Awaitable[tuple[Lengths | None, Lengths | None]]]
"""Lengths of a role's prompts and outputs lately."""

logger = logging.getLogger(__name__)

_Key = tuple[str, str]


class _Asked(Struct, frozen=True):
    question: MixQuestion
    at: float


class Mixes:
    """Questions about mixes, and the answers that have come.

    Args:
        solve: asks another process.
        measure: asks how long requests are.
        ring: told the key of a service when there is an answer.
        clock: seconds since 1970.
        every_seconds: from one question about a role to the next.
    """

    def __init__(
        self,
        solve: Solve,
        measure: Measure,
        ring: Callable[[str], None],
        clock: Callable[[], float],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._solve = solve
        self._measure = measure
        self._ring = ring
        self._clock = clock
        self._every_seconds = every_seconds
        self._asked: dict[_Key, _Asked] = {}
        self._answers: dict[_Key, MixAnswer] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def of(self, service: ModelService) -> Mapping[str, MixAnswer]:
        """By role, answers that nobody has used."""
        uid = service.metadata.uid or ""
        return {role: one for (of, role), one in self._answers.items() if of == uid}

    def used(self, service: ModelService, answers: Mapping[str, MixAnswer]) -> None:
        """What follows from these answers is in the service's status."""
        for role, one in answers.items():
            key = (service.metadata.uid or "", role)
            if self._answers.get(key) is one:
                del self._answers[key]

    def ask(self, service: ModelService, questions: Mapping[str, MixQuestion]) -> None:
        """Ask what is due; returns at once."""
        for role, question in questions.items():
            key = (service.metadata.uid or "", role)
            if key in self._tasks or not self._is_due(key, question):
                continue
            self._asked[key] = _Asked(question, self._clock())
            self._tasks[key] = asyncio.create_task(self._answer(key, service, question), name=f"mix of {service.key}")

    def forget(self, uid: str) -> None:
        """The service is gone."""
        for key in [key for key in {*self._asked, *self._tasks} if key[0] == uid]:
            self._drop(key)

    def clear(self) -> None:
        """Somebody else leads."""
        for key in {*self._asked, *self._tasks, *self._answers}:
            self._drop(key)

    async def settled(self) -> None:
        """Wait until all that was asked has been answered."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values())

    def _is_due(self, key: _Key, question: MixQuestion) -> bool:
        last = self._asked.get(key)
        if last is None:
            return True
        waited = self._clock() - last.at
        if not 0 <= waited < self._every_seconds:
            return True
        return waited >= CHANGED_SECONDS and not question.is_like(last.question)

    async def _answer(self, key: _Key, service: ModelService, question: MixQuestion) -> None:
        try:
            async with self._places:
                prompts, outputs = await self._measure(service, key[1])
                self._answers[key] = await self._solve(
                    replace(question, shape=shape_of(prompts, outputs, question.shape))
                )
            self._ring(service.key)
        except SolverError as error:
            logger.warning("service %s: the mix of role %s is not known: %s", service.key, key[1], error)
        except Exception:  # else nobody would hear of it: nothing waits for this task
            logger.exception("service %s: the mix of role %s", service.key, key[1])
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]

    def _drop(self, key: _Key) -> None:
        self._asked.pop(key, None)
        self._answers.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
