"""`python -m stand_in.load`: sends requests when they are due, whatever became of those before, and tells what came."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import numpy as np

from stand_in.arrivals import Load, read_arrivals, shaped
from stand_in.client import Client, Outcome, Result, Target
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.synthetic import Lengths


@dataclass(frozen=True, slots=True)
class Promise:
    """What a request must meet to be good, in seconds; None: nothing is promised."""

    ttft_seconds: float | None = None
    itl_seconds: float | None = None

    def is_kept(self, result: Result) -> bool:
        """Whether a request was good; those that did not complete are not."""
        pairs = ((result.ttft_seconds, self.ttft_seconds), (result.itl_seconds, self.itl_seconds))
        late = any(most is not None and found is not None and found > most for found, most in pairs)
        return result.outcome is Outcome.COMPLETED and not late


async def play(requests: Requests, client: Client) -> list[Result]:
    """Sends all requests, each when it is due (open loop), and waits for the last answer; in order of arrival."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent: list[asyncio.Task[Result]] = []
    rows = zip(*(column.tolist() for column in _columns(requests)), strict=True)
    for at, prompt_tokens, output_tokens in rows:
        await asyncio.sleep(began + at - loop.time())
        late = max(0.0, loop.time() - began - at)
        sent.append(asyncio.create_task(client.ask(prompt_tokens, output_tokens, at, late)))
    return list(await asyncio.gather(*sent))


def _columns(requests: Requests) -> tuple[Any, ...]:
    return requests.arrival_seconds, requests.prompt_tokens, requests.output_tokens


def summary(results: Sequence[Result], promise: Promise) -> dict[str, Any]:
    """Counts by outcome, the share that was good, and quantiles in seconds."""
    counts = Counter(one.outcome for one in results)
    kept = sum(map(promise.is_kept, results))
    return {
        "requests": len(results),
        **{str(outcome): counts[outcome] for outcome in Outcome},
        "attainment": kept / len(results) if results else None,
        "ttft_seconds": _quantiles([one.ttft_seconds for one in results]),
        "itl_seconds": _quantiles([one.itl_seconds for one in results]),
        "late_seconds": _quantiles([one.late_seconds for one in results]),
        "reasons": dict(Counter(one.why for one in results if one.why).most_common(10)),
    }


def _quantiles(values: Sequence[float | None]) -> dict[str, float]:
    known = [one for one in values if one is not None]
    return {f"p{100 * q:g}": float(np.quantile(known, q)) for q in (0.5, 0.9, 0.99)} if known else {}


def write(results: Sequence[Result], promise: Promise, began_at: float, out: TextIO) -> None:
    """One JSON document, with a line for each request: logs of containers are kept by lines."""
    head = {"began_at": began_at, "summary": summary(results, promise)}
    rows = ",\n".join(json.dumps(asdict(one)) for one in results)
    out.write(f'{{"head": {json.dumps(head)},\n"requests": [\n{rows}\n]}}\n')


async def send(requests: Requests, target: Target) -> list[Result]:
    """The same over TCP: a connection for each request, for a Service spreads connections, not requests."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
    connector = aiohttp.TCPConnector(force_close=True, limit=0, ttl_dns_cache=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return await play(requests, Client(session, target))


def main() -> None:
    """Reads the command line, sends, writes to standard output."""
    parser = argparse.ArgumentParser(prog="stand_in.load", description=__doc__)
    parser.add_argument("url", help="such as http://llama:8000")
    parser.add_argument("--model", default="stand-in")
    parser.add_argument("--prefill-url", help="engines that compute prompts; those at URL go on from there")
    parser.add_argument("--arrivals", type=Path, help="JSON list of [seconds, prompt tokens, output tokens]")
    parser.add_argument("--load", type=Load, choices=tuple(Load), default=Load.STEADY)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--low", type=float, default=1.0, help="requests per second")
    parser.add_argument("--high", type=float, default=1.0, help="requests per second")
    parser.add_argument("--prompt-tokens", type=float, default=200.0, help="median")
    parser.add_argument("--output-tokens", type=float, default=30.0, help="median")
    parser.add_argument("--log-deviation", type=float, default=0.0, help="of both lengths")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience-seconds", type=float, default=300.0, help="for one request")
    parser.add_argument("--ttft-seconds", type=float, help="promised time to first token")
    parser.add_argument("--itl-seconds", type=float, help="promised mean time between tokens")
    given = parser.parse_args()
    requests = read_arrivals(given.arrivals) if given.arrivals else _shaped(given)
    target = Target(given.url, given.model, given.prefill_url, given.patience_seconds)
    began_at = datetime.now(UTC).timestamp()
    results = asyncio.run(send(requests, target))
    write(results, Promise(given.ttft_seconds, given.itl_seconds), began_at, sys.stdout)


def _shaped(given: argparse.Namespace) -> Requests:
    lengths = Lengths(given.prompt_tokens, given.output_tokens, given.log_deviation)
    return shaped(given.load, seconds=given.seconds, low=given.low, high=given.high, lengths=lengths, seed=given.seed)


if __name__ == "__main__":
    main()
