"""Terms of the lease: their settings, what a busy server may ask for, and wall clocks that are set meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest
from pydantic import ValidationError

from harness import virtual_time
from stowage.run.lease import Lease, Terms
from stowage.run.settings import OperatorSettings
from stowage.transport import Api, TooManyRequests
from unit.test_run_lease import LeaseServer, play

HOUR = 3600.0


class Busy(LeaseServer):
    """A server that may answer 429 to everything; `asked` are the times of all requests."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = False
        self.asked: list[float] = []

    async def _answer(self) -> None:
        self.asked.append(virtual_time.now())
        if self.busy:
            raise TooManyRequests("GET lease", status=429, retry_after_seconds=10.0)
        await super()._answer()


class Clocks:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def now(self) -> float:
        return 1e9 + virtual_time.now() + self.set_by


def campaign(server: LeaseServer, name: str, clocks: Clocks, **fields: Any) -> tuple[Lease, asyncio.Task[None]]:
    lease = Lease(
        cast("Api", server),
        namespace="kube-system",
        name="stowage-operator",
        identity=name,
        clock=virtual_time.now,
        now=clocks.now,
        generator=random.Random(name),
        **fields,
    )
    return lease, asyncio.create_task(lease.run())


@pytest.mark.parametrize("jump", [pytest.param(HOUR, id="an hour forward"), pytest.param(-HOUR, id="an hour back")])
@pytest.mark.parametrize("who", ["leader", "standby"])
def test_a_wall_clock_that_is_set_neither_ends_a_term_nor_begins_one(who: str, jump: float) -> None:
    async def scenario(server: LeaseServer) -> None:
        clocks = {"leader": Clocks(), "standby": Clocks()}
        first, leading = campaign(server, "a", clocks["leader"])
        await first.wait_leading()
        second, waiting = campaign(server, "b", clocks["standby"])
        for _ in range(6):
            await asyncio.sleep(10)
            clocks[who].set_by += jump
            assert (first.leading, second.leading) == (True, False)
        assert first.epoch == 1
        leading.cancel()
        waiting.cancel()
        await asyncio.gather(leading, waiting, return_exceptions=True)

    play(scenario)


def test_who_waits_for_the_lease_waits_as_long_as_a_busy_server_asks_and_the_leader_keeps_its_pace() -> None:
    async def run() -> None:
        server = Busy()
        first, leading = campaign(server, "a", Clocks())
        await first.wait_leading()
        server.busy = True
        server.asked.clear()
        await asyncio.sleep(9.0)
        assert first.leading
        assert 3 <= len(server.asked) <= 7
        await asyncio.sleep(20.0)
        assert not first.leading  # its term is over, now it waits like everybody
        server.asked.clear()
        await asyncio.sleep(100.0)
        assert 8 <= len(server.asked) <= 10
        server.busy = False
        await asyncio.sleep(12.0)
        assert first.leading
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)

    virtual_time.run(run())


def test_a_lease_of_short_terms_passes_on_sooner() -> None:
    async def scenario(server: LeaseServer) -> None:
        terms = Terms(lease=4, renew_within=2.5, retry=0.5)
        first, leading = campaign(server, "a", Clocks(), terms=terms)
        await first.wait_leading()
        assert server.spec["leaseDurationSeconds"] == 4
        second, waiting = campaign(server, "b", Clocks(), terms=terms)
        await asyncio.sleep(20)
        first._renewed_at = None  # it is gone, nothing is released
        leading.cancel()
        killed = virtual_time.now()
        await second.wait_leading()
        assert virtual_time.now() - killed <= 4 + 2 * 0.6
        waiting.cancel()
        await asyncio.gather(leading, waiting, return_exceptions=True)

    play(scenario)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"renew_within_seconds": 15.0}, "two processes lead at once", id="terms would meet"),
        pytest.param({"lease_seconds": 8}, "two processes lead at once", id="the lease ends before its holder"),
        pytest.param({"lease_retry_seconds": 6.0}, "one failed try ends a term", id="only one try"),
    ],
)
def test_settings_that_would_break_the_promise_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OperatorSettings(**settings)
