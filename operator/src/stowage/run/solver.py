"""Solver workers: the packer in processes of its own, warm, and killable one by one.

CP-SAT holds the interpreter lock in places and may overrun its limit in presolve, so it never runs in the event loop's
process, and a worker that overruns is killed. Workers are spawned: forking a process that runs threads is not safe.

One process packs, one packing after the other, for two at once would only share the same CPUs. Up to two CPUs it solves
neighbourhoods in threads of its own, which measures the same as processes (docs/design/engine.md); beyond, in further
warm processes, which it starts anew when they die and which end with it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec import structs
from pebble import ProcessExpired, ProcessPool

from stowage.run.snapshot_changes import Receiver, Sender
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.emptying import Consolidation
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Packing

if TYPE_CHECKING:
    from stowage.decide.serving.role_mix import MixAnswer, MixQuestion
    from stowage_scheduler.solve.crew import Crew

DETERMINISTIC_LIMIT_SECONDS: Final = 600.0  # a budget in deterministic units says nothing about seconds

MIX_LIMIT_SECONDS: Final = 30.0
"""A mix takes a fraction of a second, and its first one waits for imports."""

CLOSE_SECONDS: Final = 3.0

LOOK_SECONDS: Final = 1.0
"""How often a call looks whether the pool that has its work still lives."""

MOST_THREADS: Final = 2  # that gain as much as processes do: building a model holds the interpreter's lock

logger = logging.getLogger(__name__)

_COLLECTION: Final = (
    100_000,
    20,
    20,
)  # a packing makes many small objects that last as long as it does, and few cycles

_encode = msgspec.msgpack.Encoder().encode


class SolverError(Exception):
    """The packer failed in its worker: the message holds the worker's own words."""


class SolverTimeout(SolverError):  # noqa: N818 - named after what happened
    """The worker overran its hard limit and was killed."""

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(f"solver worker killed after {limit_seconds:g} s; lower the budget or give it more CPU")
        self.limit_seconds = limit_seconds


class SolverDied(SolverError):  # noqa: N818 - named after what happened
    """The worker's process ended, and that of the second try too: killed from outside, or out of memory."""


def limit_seconds(budget: Budget) -> float:
    """How long a worker may take before it is killed."""
    return DETERMINISTIC_LIMIT_SECONDS if budget.deterministic_units is not None else budget.seconds * 2 + 5


_crew: Crew | None = None  # of the process that packs; it outlives packings


def warm_up(workers: int) -> None:
    """Load the packer and CP-SAT, in the process that packs: the first packing need not wait for it."""
    global _crew  # noqa: PLW0603 - a process pool's initializer has no other place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the operator ends its workers
    import ortools.sat.python.cp_model  # noqa: F401, PLC0415 - 0.4 s that only workers pay

    import stowage_scheduler.pack  # noqa: F401, PLC0415
    from stowage_scheduler.solve.crew import Threads  # noqa: PLC0415
    from stowage_scheduler.solve.processes import Processes  # noqa: PLC0415

    _crew = Threads(workers) if workers <= MOST_THREADS else Processes(workers)
    gc.freeze()  # what is loaded by now stays
    gc.set_threshold(*_COLLECTION)


_received = Receiver()  # of the process that packs


def pack_in_worker(message: bytes, options: bytes, budget: bytes, seed: int) -> bytes | None:
    """Decode, pack, encode: what a worker runs. msgpack is smaller and faster than pickles of thousands of facts.

    Returns:
        None when the message speaks of changes to a snapshot that this process does not have.
    """
    from stowage_scheduler.pack import pack  # noqa: PLC0415

    return _search(pack, message, options, budget, seed)


def consolidate_in_worker(message: bytes, options: bytes, budget: bytes, seed: int) -> bytes | None:
    """Look for nodes to empty, as `pack_in_worker` packs."""
    from stowage_scheduler.consolidation import consolidate  # noqa: PLC0415

    return _search(consolidate, message, options, budget, seed)


def _search(
    search: Callable[..., Packing | Consolidation], message: bytes, options: bytes, budget: bytes, seed: int
) -> bytes | None:
    import time  # noqa: PLC0415

    snapshot = _received.snapshot(message)
    if snapshot is None:
        return None
    found = search(
        snapshot,
        msgspec.msgpack.decode(options, type=PackOptions),
        msgspec.msgpack.decode(budget, type=Budget),
        seed,
        time.monotonic,  # noqa: TID251 - the edge: here the packer's clock is chosen
        _crew,
    )
    return _encode(found)


def mix_in_worker(question: MixQuestion, seed: int) -> MixAnswer:
    """Choose a mix of variants: what a worker runs. Questions are small, so they travel as pickles."""
    from stowage.decide.serving.role_mix import answer  # noqa: PLC0415

    return answer(question, seed=seed)


class Solver:
    """The process that packs, and those that help it; an async context manager.

    Args:
        workers: how many neighbourhoods are solved at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = self._new_pool()
        self._sender = Sender()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            context=multiprocessing.get_context("spawn"),
            initializer=warm_up,
            initargs=[self._workers],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def warm(self) -> None:
        """Start the workers and wait until one has loaded everything; one that dies meanwhile comes with the next work.

        Raises:
            SolverError: the packer does not load.
        """
        try:
            await self._run(_nothing, (), 120.0)
        except SolverDied as error:
            logger.warning("%s, while it loaded", error)

    async def solve(self, snapshot: Snapshot, options: PackOptions, budget: Budget, seed: int) -> Packing:
        """Pack in a worker. Cancelling the call kills its worker; when it dies, a new one is asked once more.

        Args:
            snapshot: the facts of one instant.
            options: what the plan may cover and disturb.
            budget: its number of workers is the solver's own.
            seed: of every random choice.

        Raises:
            SolverTimeout: the worker overran twice the budget and 5 s, and was killed.
            SolverDied: two processes died over it.
            SolverError: the packer raised.
        """
        return msgspec.msgpack.decode(await self._ask(pack_in_worker, snapshot, options, budget, seed), type=Packing)

    async def consolidate(self, snapshot: Snapshot, options: PackOptions, budget: Budget, seed: int) -> Consolidation:
        """Look for nodes to empty in a worker, as `solve` packs; the budget is that of all tries together."""
        answer = await self._ask(consolidate_in_worker, snapshot, options, budget, seed)
        return msgspec.msgpack.decode(answer, type=Consolidation)

    async def _ask(
        self,
        work: Callable[[bytes, bytes, bytes, int], bytes | None],
        snapshot: Snapshot,
        options: PackOptions,
        budget: Budget,
        seed: int,
    ) -> bytes:
        budget = structs.replace(budget, workers=self._workers)
        how = _encode(options), _encode(budget), seed
        try:
            answer = await self._run(work, (self._sender.changes(snapshot), *how), limit_seconds(budget))
        except SolverDied as error:
            logger.warning("%s; asking a new one", error)
            answer = None
        if answer is None:
            answer = await self._run(work, (self._sender.whole(snapshot), *how), limit_seconds(budget))
        return bytes(answer)

    async def mix(self, question: MixQuestion, seed: int) -> MixAnswer:
        """The cheapest mix of variants for a role, as `role_mix.answer` has it.

        Args:
            question: about the role.
            seed: of the search.

        Raises:
            SolverTimeout: the worker overran and was killed.
            SolverDied: the process died.
            SolverError: the programme raised.
        """
        found: MixAnswer = await self._run(mix_in_worker, (question, seed), MIX_LIMIT_SECONDS)
        return found

    async def close(self) -> None:
        """Kill all workers."""
        stop: Any = self._pool.stop
        stop()
        try:
            await asyncio.to_thread(self._pool.join, CLOSE_SECONDS)
        except TimeoutError:
            logger.warning("solver workers did not end within %g s; they end with this process", CLOSE_SECONDS)

    async def _run(self, function: Any, arguments: tuple[Any, ...], seconds: float) -> Any:  # noqa: ANN401 - pickled
        try:
            if not self._pool.active:  # a process that dies without work in hand leaves a pool that works no more
                self._pool = self._new_pool()
            pool = self._pool
            future = pool.schedule(function, args=arguments, timeout=seconds)
        except RuntimeError as error:  # which a broken pool is too
            raise SolverDied(f"solver worker died while work was given to it: {error}") from error
        try:
            return await _outcome(pool, future)
        except TimeoutError as error:
            raise SolverTimeout(seconds) from error
        except (asyncio.CancelledError, SolverDied):
            raise
        except ProcessExpired as error:
            raise SolverDied(f"solver worker {error.pid} died with exit code {error.exitcode}") from error
        except BrokenProcessPool as error:
            raise SolverDied("solver worker died before it took up its work") from error
        except Exception as error:
            raise SolverError(f"{type(error).__name__}: {error}") from error


async def _outcome(pool: ProcessPool, future: Future[Any]) -> Any:  # noqa: ANN401 - whatever the work answers
    """What the work answers, or raises.

    A pool that breaks in the very moment in which work comes aborts what it had before, and leaves the new work waiting
    for ever.

    Raises:
        SolverDied: the pool is broken, and has not said so of this work.
    """
    answer = asyncio.wrap_future(future)
    try:
        while not answer.done():
            broken = not pool.active
            await asyncio.wait({answer}, timeout=LOOK_SECONDS)
            if broken and not answer.done():
                raise SolverDied("solver worker died, and its pool forgot the work")
    finally:
        answer.cancel()
    return answer.result()


def _nothing() -> None:
    """The initializer has done the work."""
