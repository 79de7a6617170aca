"""Who solves neighbourhoods changes nothing about the answer, not even a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from harness.facts import OPTIONS
from harness.instances import dump, paper_instance
from stowage_scheduler.build import build
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve import processes
from stowage_scheduler.solve.crew import Crew, Scene, Threads
from stowage_scheduler.solve.effort import Aim, Effort
from stowage_scheduler.solve.engine import solve
from stowage_scheduler.solve.neighbourhood import Answer, Kind, Neighbourhood
from stowage_scheduler.solve.processes import Processes

UNITS = 0.6


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Too large for the exact model, so that neighbourhoods do the work."""
    return build(read_dump(json.dumps(dump(paper_instance(24, 6, 2, 97, 3))).encode()).snapshot, OPTIONS).problem


@pytest.fixture
def pair() -> Iterator[Processes]:
    with Processes(2) as crew:
        crew.wait_loaded()
        yield crew


def counts(problem: Problem, crew: Crew) -> list[dict[int, int]]:
    budget = Budget(deterministic_units=UNITS, workers=crew.workers)
    clock = time.monotonic  # noqa: TID251
    return solve(problem, budget, 5, clock, clock(), crew).placement.counts


def neighbourhood(problem: Problem, placement: Placement) -> Neighbourhood:
    waiting = tuple(c.index for c in problem.classes if placement.unplaced(c))
    return Neighbourhood(Kind.FILL, (0, 1, 2, 3), waiting, Effort(deterministic=0.05, seed=1, aim=Aim.PLACE))


@pytest.fixture(scope="module")
def answer_of_threads(problem: Problem) -> list[dict[int, int]]:
    with Threads(2) as crew:
        return counts(problem, crew)


def test_processes_answer_as_threads_do_packing_after_packing(
    problem: Problem, answer_of_threads: list[dict[int, int]], pair: Processes
) -> None:
    assert answer_of_threads != Placement(problem).counts
    assert counts(problem, pair) == answer_of_threads
    assert counts(problem, pair) == answer_of_threads


def test_a_process_that_is_killed_is_started_anew_and_the_answer_is_the_same(
    problem: Problem, answer_of_threads: list[dict[int, int]], pair: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    ask = processes._Process.ask

    def ask_after_a_kill(one: processes._Process, *arguments: object) -> Answer:
        if len(killed) < 2 and arguments[2] != 0 and one.process.pid not in killed:
            killed.append(one.process.pid)
            os.kill(one.process.pid, signal.SIGKILL)
        return ask(one, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(processes._Process, "ask", ask_after_a_kill)
    assert counts(problem, pair) == answer_of_threads
    assert len(killed) == 2
    assert not set(killed) & set(pair.pids)


def test_a_neighbourhood_that_kills_two_processes_is_solved_here(
    problem: Problem, answer_of_threads: list[dict[int, int]], pair: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths: list[int] = []
    ask = processes._Process.ask

    def die_twice(one: processes._Process, *arguments: object) -> Answer:
        if len(deaths) < 2:
            deaths.append(one.process.pid)
            raise EOFError
        return ask(one, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(processes._Process, "ask", die_twice)
    assert counts(problem, pair) == answer_of_threads
    assert len(set(deaths)) == 2


def test_work_goes_on_while_processes_load(problem: Problem, answer_of_threads: list[dict[int, int]]) -> None:
    with Processes(2) as crew:
        assert counts(problem, crew) == answer_of_threads


def test_a_worker_ends_at_once_when_the_other_end_is_gone(pair: Processes) -> None:
    (one,) = pair._others
    one.connection.close()
    assert one.process.wait(timeout=60) == 0


def change_a_node(scene: Scene) -> None:
    scene.replace(0, {})


def take_another_start(scene: Scene) -> None:
    scene.reset(Placement(scene.now.problem))


@pytest.mark.parametrize(
    "change", [change_a_node, take_another_start], ids=["a node was emptied", "the search began again"]
)
def test_a_process_follows_the_scene(problem: Problem, pair: Processes, change: Callable[[Scene], None]) -> None:
    scene = Scene(Placement(problem))
    (other,) = pair._others
    for _ in range(2):
        wanted = neighbourhood(problem, scene.now)
        with Threads(1) as here:
            assert other.submit(scene, wanted).result() == here.submit(scene, wanted).result()
        change(scene)


def test_a_scene_knows_its_past(problem: Problem) -> None:
    start = Placement(problem)
    scene = Scene(start)
    begin = len(scene.changes)
    scene.replace(3, {})
    assert scene.now.counts != start.counts
    assert scene.at(begin).counts == start.counts
    assert scene.at(len(scene.changes)).counts == scene.now.counts
