"""The operator as a process: how it starts, ends, and hands over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from harness.waiting import eventually
from integration.conftest import SHORT_TERMS
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import Api, NotFound, paths

GRACE_SECONDS = 30.0
"""That Kubernetes gives a pod to end by itself."""


class Starter:
    """Starts operators of one test, which compete for one lease of their own."""

    def __init__(self, start: Any, api: Api) -> None:
        self.lease_name = f"stowage-test-{uuid.uuid4().hex[:8]}"
        self._start = start
        self._api = api

    def __call__(self) -> ManagedProcess:
        port = free_port()
        process: ManagedProcess = self._start(
            "operator",
            *SHORT_TERMS,
            ready_url=f"http://127.0.0.1:{port}/readyz",
            environment={
                "STOWAGE_NAMESPACE": "kube-system",
                "STOWAGE_LEASE_NAME": self.lease_name,
                "STOWAGE_METRICS_PORT": str(port),
                "STOWAGE_SOLVER_WORKERS": "1",
            },
        )
        return process

    async def spec(self) -> dict[str, Any]:
        try:
            spec: dict[str, Any] = (await self._api.get(paths.lease("kube-system", self.lease_name)))["spec"]
        except NotFound:
            return {}
        return spec

    async def until_led(self, other_than: str = "") -> dict[str, Any]:
        """Wait until somebody leads; the lease."""

        async def led() -> dict[str, Any]:
            spec = await self.spec()
            assert spec.get("holderIdentity") not in {None, "", other_than}, spec
            return spec

        return await eventually(led, what="an operator leads")


@pytest.fixture
def operators(start: Any, api: Api) -> Starter:
    return Starter(start, api)


def workers_of(process: ManagedProcess) -> list[int]:
    """Process ids of the solver workers: the children of the operator."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_and_releases_the_lease(operators: Starter, number: signal.Signals) -> None:
    process = operators()
    assert (await operators.until_led())["leaseTransitions"] >= 1
    process.signal(number)
    assert process.wait(GRACE_SECONDS) == 0
    assert not (await operators.spec()).get("holderIdentity")
    assert "Traceback" not in process.log_tail(500)


async def test_a_standby_takes_over_when_the_leader_is_killed_and_no_worker_is_left(operators: Starter) -> None:
    leader = operators()
    first = await operators.until_led()
    standby = operators()  # ready although it does not lead
    workers = workers_of(leader)
    assert workers
    leader.signal(signal.SIGKILL)
    leader.wait(GRACE_SECONDS)
    second = await operators.until_led(other_than=first["holderIdentity"])
    assert second["leaseTransitions"] > first["leaseTransitions"]
    assert standby.exit_code is None

    async def no_worker() -> bool:
        return not any(exists(worker) for worker in workers)

    await eventually(no_worker, what="the killed operator's workers are gone")


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        pytest.param({}, 2, "address already in use", id="the port is taken"),
        pytest.param({"STOWAGE_KUBECONFIG": "/does/not/exist"}, 3, "no such file", id="no kubeconfig"),
        pytest.param({"STOWAGE_SOLVER_WORKERS": "none"}, 2, "solver", id="a setting that makes no sense"),
    ],
)
def test_what_cannot_work_is_said_in_few_words(
    cluster: LocalCluster, environment: dict[str, str], code: int, words: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = subprocess.run(
            [sys.executable, "-m", "stowage.cli", "operator", "--metrics-port", str(taken.getsockname()[1])],
            env={**os.environ, **cluster.environment, "STOWAGE_SOLVER_WORKERS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) <= 8
