"""Processes under test, and what they say of themselves by HTTP: health, readiness, metrics."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from harness.waiting import eventually
from stowage.demo.processes import ManagedProcess, free_port

Start = Callable[..., ManagedProcess]

# a term of 5 s for 15, and so on: a take-over costs a few seconds
SHORT_TERMS: Mapping[str, str] = {
    "STOWAGE_LEASE_SECONDS": "5",
    "STOWAGE_RENEW_WITHIN_SECONDS": "3.5",
    "STOWAGE_LEASE_RETRY_SECONDS": "0.6",
}

# a machine with other work may keep a process waiting for seconds, and a kubelet asks three times too
PATIENCE_SECONDS = 20.0


@dataclass
class Probed:
    """A process whose probes can be asked."""

    process: ManagedProcess
    port: int
    lease_name: str = ""
    identity: str = ""

    async def ask(self, path: str) -> tuple[int, str]:
        """Status and text of an answer; status 0: there was none."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def live(self) -> bool:
        """Whether a kubelet would leave it alone."""
        return self.process.exit_code is None and (await self.ask("/healthz"))[0] == 200

    async def ready(self) -> bool:
        """Whether it says that it sees everything."""
        return (await self.ask("/readyz"))[0] == 200

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        _, text = await self.ask("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def until_ready(self, timeout_seconds: float = 60.0) -> None:
        """Waits until it is ready."""
        await eventually(self.ready, timeout_seconds=timeout_seconds, what=f"{self.process.name} is ready")

    async def until_leading(self, timeout_seconds: float = 30.0) -> None:
        """Waits until it leads."""

        async def leads() -> bool:
            return await self.metric("stowage_leader") == 1

        await eventually(leads, timeout_seconds=timeout_seconds, what=f"{self.process.name} leads")


def start_operator(
    start: Start, *, lease_name: str | None = None, identity: str = "", environment: Mapping[str, str] | None = None
) -> Probed:
    """Starts an operator with short terms, and does not wait for it; without a name it has a lease of its own."""
    port = free_port()
    lease_name = lease_name or f"stowage-watch-{uuid.uuid4().hex[:8]}"
    identity = identity or f"op-{uuid.uuid4().hex[:6]}"
    process = start(
        "operator",
        *("--metrics-port", str(port), "--lease-name", lease_name, "--solver-workers", "1", "--identity", identity),
        environment={**SHORT_TERMS, **(environment or {})},
    )
    return Probed(process, port, lease_name, identity)


def start_extender(start: Start, *, environment: Mapping[str, str] | None = None) -> Probed:
    """Starts an extender, and does not wait for it."""
    port = free_port()
    process = start(
        "extender", "--metrics-port", str(port), "--port", str(free_port()), environment=dict(environment or {})
    )
    return Probed(process, port)
