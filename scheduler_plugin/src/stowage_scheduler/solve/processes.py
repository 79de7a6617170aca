"""Warm processes that solve neighbourhoods beside the one that searches."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from threading import Event
from typing import cast

from stowage_scheduler.solve.crew import Crew, Scene
from stowage_scheduler.solve.neighbourhood import Answer, Neighbourhood, prepare
from stowage_scheduler.solve.worker import READY

_WORKER = "stowage_scheduler.solve.worker"


class Processes(Crew):
    """One thread of this process and `workers - 1` processes, which stay for the next packing.

    They are programs of their own, never forks. One that dies is started anew, brought to the same
    placement and asked again; if it dies over the same neighbourhood again, that one is solved here.
    Until they have loaded (0.4 s), all work is done here.
    """

    def __init__(self, workers: int) -> None:
        """Start the processes; they load while this one goes on."""
        super().__init__(workers)
        self._here = _Here()
        self._others = [_Process() for _ in range(workers - 1)]

    def wait_loaded(self) -> None:
        """Block until every process has loaded, or died."""
        for one in self._others:
            one.loaded.wait()

    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        """Give it to whoever has least to do."""
        ready: list[_Slot] = [one for one in self._others if one.loaded.is_set()]
        return min((*ready, self._here), key=lambda one: one.waiting).submit(scene, wanted)

    @property
    def pids(self) -> list[int]:
        """Process ids of the others."""
        return [one.process.pid for one in self._others]

    def close(self) -> None:
        """Kill the processes."""
        for one in (*self._others, self._here):
            one.close()


class _Slot(ABC):
    """Solves one neighbourhood at a time, in the order in which they come."""

    def __init__(self) -> None:
        self.waiting = 0
        self.thread = ThreadPoolExecutor(1, "neighbourhood")

    @abstractmethod
    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        """Solve a neighbourhood of the scene as it is now, after those that came before."""

    def counted(self, future: Future[Answer]) -> Future[Answer]:
        self.waiting += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Answer]) -> None:
        self.waiting -= 1

    def close(self) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)


class _Here(_Slot):
    """This process."""

    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        return self.counted(self.thread.submit(prepare(scene.now, wanted).solve))


class _Process(_Slot):
    """Another process, and how much of which scene it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.scene: Scene | None = None
        self.position = 0
        self.loaded = Event()
        self.closed = False
        self.start()
        self.thread.submit(self.load)

    def start(self) -> None:
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-m", _WORKER, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()

    def load(self) -> None:
        """Wait for the first word; a process that dies before it is found out at the first neighbourhood."""
        try:
            self.expect_ready()
        except (EOFError, OSError):
            return
        finally:
            self.loaded.set()

    def expect_ready(self) -> None:
        word = self.connection.recv()
        if word != READY:
            raise OSError(f"solver worker {self.process.pid} began with {word!r}")

    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        begin = self.position if self.scene is scene else None
        self.scene, self.position = scene, len(scene.changes)
        return self.counted(self.thread.submit(self.answer, scene, begin, self.position, wanted))

    def answer(self, scene: Scene, begin: int | None, end: int, wanted: Neighbourhood) -> Answer:
        """Ask the process; `begin` is how many changes of the scene it has, None when it has another scene."""
        try:
            return self.ask(scene, begin, end, wanted)
        except (EOFError, OSError):  # it died
            if self.closed:
                raise
            self.stop()
            self.start()
        try:
            self.expect_ready()
            return self.ask(scene, None, end, wanted)
        except (EOFError, OSError):  # again: the next one finds a fresh process, this one is solved here
            self.stop()
            self.start()
            self.load()
            return prepare(scene.at(end), wanted).solve()

    def ask(self, scene: Scene, begin: int | None, end: int, wanted: Neighbourhood) -> Answer:
        if begin is None:
            self.connection.send(scene.now.problem)
        self.connection.send((scene.changes[begin or 0 : end], wanted))
        return cast("Answer", self.connection.recv())

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.closed = True
        self.process.kill()
        self.thread.shutdown(cancel_futures=True)
        self.stop()
