"""The leader lease in virtual time, against an API server of one object."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.run.lease import Lease
from stowage.transport import Api, ApiUnavailable, Conflict, NotFound


class LeaseServer:
    """Holds one Lease, with optimistic locking; `down` refuses everything, `slow_seconds` delays answers."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.versions = 0
        self.down = False
        self.slow_seconds = 0.0
        self.holders: list[str] = []

    async def _answer(self) -> None:
        await asyncio.sleep(self.slow_seconds)
        if self.down:
            raise ApiUnavailable("GET lease", status=503)

    def _store(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.versions += 1
        stored = copy.deepcopy(dict(body))
        stored["metadata"]["resourceVersion"] = str(self.versions)
        self.lease = stored
        holder = stored["spec"]["holderIdentity"]
        if not self.holders or self.holders[-1] != holder:
            self.holders.append(holder)
        return stored

    async def get(self, _: str) -> dict[str, Any]:
        await self._answer()
        if self.lease is None:
            raise NotFound("GET lease", status=404)
        return copy.deepcopy(self.lease)

    async def create(self, _: str, body: Mapping[str, Any]) -> dict[str, Any]:
        await self._answer()
        if self.lease is not None:
            raise Conflict("POST lease", status=409, reason="AlreadyExists")
        return self._store(body)

    async def replace(self, _: str, body: Mapping[str, Any]) -> dict[str, Any]:
        await self._answer()
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("PUT lease", status=409)
        return self._store(body)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


class Candidate:
    """A process that campaigns, with what it was told; `skew_seconds` is the error of its wall clock."""

    def __init__(
        self, server: LeaseServer, name: str, *, skew_seconds: float = 0.0, floor: int = 0, seed: int = 1
    ) -> None:
        async def highest() -> int:
            return floor

        self.told: list[str] = []
        self.lease = Lease(
            cast("Api", server),
            namespace="kube-system",
            name="stowage-operator",
            identity=name,
            clock=virtual_time.now,
            now=lambda: 1e9 + virtual_time.now() + skew_seconds,
            generator=random.Random(seed),
            floor=highest,
            on_gained=lambda epoch: self.told.append(f"gained {epoch}"),
            on_lost=lambda: self.told.append("lost"),
        )
        self.task = asyncio.create_task(self.lease.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def crash(self) -> None:
        """The process is gone: nothing is released."""
        self.lease._renewed_at = None
        self.task.cancel()


def play(scenario: Callable[[LeaseServer], Any]) -> LeaseServer:
    server = LeaseServer()

    async def run() -> None:
        await scenario(server)

    virtual_time.run(run())
    return server


def test_the_first_candidate_leads_at_once_and_keeps_leading() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        assert virtual_time.now() < 1.0
        second = Candidate(server, "b", seed=2)
        await asyncio.sleep(300)
        assert (first.lease.leading, second.lease.leading) == (True, False)
        assert (first.lease.epoch, server.spec["leaseTransitions"]) == (1, 1)
        assert first.told == ["gained 1"]
        await second.stop()
        await first.stop()

    assert play(scenario).holders[0].startswith("a_")


def test_a_released_lease_is_taken_within_a_try_and_opens_a_new_epoch() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        second = Candidate(server, "b", seed=2)
        await asyncio.sleep(30)
        await first.stop()
        released = virtual_time.now()
        assert first.told == ["gained 1", "lost"]
        await second.lease.wait_leading()
        assert virtual_time.now() - released < 3.0
        assert second.lease.epoch == 2
        await second.stop()

    play(scenario)


def test_the_lease_of_a_dead_leader_is_taken_after_15_seconds_and_not_sooner() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        second = Candidate(server, "b", seed=2)
        await asyncio.sleep(60)
        first.crash()
        died = virtual_time.now()
        await second.lease.wait_leading()
        assert 15.0 - 2.4 <= virtual_time.now() - died <= 15.0 + 5.0
        assert second.lease.epoch == 2
        await second.stop()

    play(scenario)


@pytest.mark.parametrize("skew_seconds", [-3600.0, 3600.0])
def test_wrong_wall_clocks_change_nothing(skew_seconds: float) -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        second = Candidate(server, "b", skew_seconds=skew_seconds, seed=2)
        await asyncio.sleep(300)
        assert (first.lease.leading, second.lease.leading) == (True, False)
        await second.stop()
        await first.stop()

    play(scenario)


def test_a_leader_that_cannot_renew_stops_leading_before_another_may_begin() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        await asyncio.sleep(20)
        server.down = True
        await asyncio.sleep(10.0)
        assert not first.lease.leading
        await asyncio.sleep(3)
        assert first.told == ["gained 1", "lost"]
        server.down = False
        await first.lease.wait_leading()
        assert first.told[2:] == ["gained 2"]  # a term that was lost is not taken up again: it is a new one
        await first.stop()

    play(scenario)


def test_a_short_outage_does_not_end_the_term() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        await asyncio.sleep(20)
        server.down = True
        await asyncio.sleep(5)
        server.down = False
        await asyncio.sleep(20)
        assert first.told == ["gained 1"]
        await first.stop()

    play(scenario)


def test_a_server_that_hangs_ends_the_term_in_time() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        server.slow_seconds = 1000.0
        await asyncio.sleep(13)
        assert first.told == ["gained 1", "lost"]
        first.crash()

    play(scenario)


def test_a_paused_leader_knows_at_once_when_it_wakes() -> None:
    async def scenario(server: LeaseServer) -> None:
        jump = 0.0
        first = Candidate(server, "a")
        first.lease._clock = lambda: virtual_time.now() + jump
        await first.lease.wait_leading()
        jump = 30.0  # SIGSTOP for 30 s: time went on, no task ran
        assert not first.lease.leading
        await first.stop()

    play(scenario)


def test_a_paused_leader_whose_lease_is_still_its_own_begins_a_new_term() -> None:
    """What was asked of it while it was late was dropped, so all has to be looked at again."""

    async def scenario(server: LeaseServer) -> None:
        jump = 0.0
        first = Candidate(server, "a")
        first.lease._clock = lambda: virtual_time.now() + jump
        await first.lease.wait_leading()
        jump = 12.0  # longer than it may go without renewing, and shorter than the lease
        assert not first.lease.leading
        await asyncio.sleep(5)
        assert (first.lease.leading, first.told) == (True, ["gained 1", "lost", "gained 2"])
        await first.stop()

    play(scenario)


def test_somebody_elses_edit_of_the_lease_does_not_end_the_term() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        for _ in range(20):
            await asyncio.sleep(1.3)
            assert server.lease is not None
            server._store({**server.lease, "metadata": {**server.lease["metadata"], "labels": {"x": "y"}}})
        assert first.told == ["gained 1"]
        await first.stop()

    play(scenario)


def test_a_lease_taken_by_force_ends_the_term() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        assert server.lease is not None
        server._store({**server.lease, "spec": {**server.spec, "holderIdentity": "b", "leaseTransitions": 7}})
        await asyncio.sleep(5)
        assert first.told == ["gained 1", "lost"]
        await asyncio.sleep(20)
        assert first.told[2:] == ["gained 8"]
        await first.stop()

    play(scenario)


def test_a_restarted_process_is_a_new_holder_with_a_new_epoch() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a")
        await first.lease.wait_leading()
        first.crash()
        again = Candidate(server, "a", seed=3)
        await again.lease.wait_leading()
        assert again.lease.epoch == 2
        assert again.lease.identity != first.lease.identity
        await again.stop()

    play(scenario)


def test_a_deleted_lease_does_not_let_epochs_go_back() -> None:
    async def scenario(server: LeaseServer) -> None:
        first = Candidate(server, "a", floor=41)
        await first.lease.wait_leading()
        assert first.lease.epoch == 42
        server.lease = None
        await asyncio.sleep(5)
        assert first.told == ["gained 42", "lost", "gained 43"]
        await first.stop()

    play(scenario)


def test_of_many_candidates_one_leads_at_any_time() -> None:
    async def scenario(server: LeaseServer) -> None:
        candidates = [Candidate(server, name, seed=seed) for seed, name in enumerate("abcde")]
        for second in range(600):
            await asyncio.sleep(1.0)
            assert sum(candidate.lease.leading for candidate in candidates) <= 1
            server.down = second % 97 > 80
        for candidate in candidates:
            await candidate.stop()
        epochs = [int(told.split()[1]) for c in candidates for told in c.told if told.startswith("gained")]
        assert len(epochs) == len(set(epochs)) > 1

    play(scenario)
