"""Engines without a model behind sockets of this machine, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from stand_in.client import Client, Target
from stand_in.process import Process, Running, serving
from stowage.decide.serving.performance import Performance, constant, line
from stowage.simulate.serving.requests import Requests

PERFORMANCE = Performance(
    prefill_seconds=line(0.02, 0.0002),
    decode_seconds=line(0.04, 0.002),
    kv_capacity_tokens=4000,
    decode_seconds_per_kv_token=constant(1e-6),
    max_running=8,
    max_batched_tokens=512,
)


@contextlib.asynccontextmanager
async def engine(folder: Path, performance: Performance = PERFORMANCE, **fields: Any) -> AsyncIterator[Running]:
    async with serving(Process(performance, **fields), asyncio.Event()) as running:
        await web.UnixSite(running.runner, str(folder / "engine")).start()
        yield running


@contextlib.asynccontextmanager
async def session_to(folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(path=str(folder / "engine"), force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


@contextlib.asynccontextmanager
async def client_of(folder: Path, **fields: Any) -> AsyncIterator[Client]:
    async with session_to(folder) as session:
        yield Client(session, Target("http://engine", "stand-in", **fields))


@contextlib.asynccontextmanager
async def asked(folder: Path, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
    async with session_to(folder) as session, session.post(f"http://engine/v1/{path}", json=body) as answer:
        yield answer


def requests(*rows: tuple[float, int, int]) -> Requests:
    at, prompts, outputs = zip(*rows, strict=True)
    return Requests(np.array(at, float), np.array(prompts), np.array(outputs))


async def scraped(session: aiohttp.ClientSession) -> dict[str, float]:
    """Values by name; those with `finished_reason` or `le` by name and that label's value."""
    async with session.get("http://engine/metrics") as answer:
        text = await answer.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            extra = [sample.labels[key] for key in ("finished_reason", "le") if key in sample.labels]
            found[" ".join([sample.name, *extra])] = sample.value
    return found
