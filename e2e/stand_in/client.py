"""One streamed request, and what became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import aiohttp

_DATA: Final = b"data: "
_DONE: Final = b"[DONE]"
_NOBODY_TOOK_IT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Outcome(StrEnum):
    """What became of a request. All but the first are failures of the service."""

    COMPLETED = "completed"
    """Every token came."""
    REFUSED = "refused"
    """No connection, or an answer that says to come later: 429 or 503."""
    FAILED = "failed"
    """Any other answer, or none."""
    CUT = "cut"
    """An answer that began and did not end."""


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of one request.

    Attributes:
        at_seconds: since the beginning of the load, when it was due.
        late_seconds: by how much later it was sent.
        ttft_seconds: from then to its first token; None: it had none.
        itl_seconds: mean time between its tokens; None: it had fewer than two, or not all.
        seconds: until its end.
        tokens: that came.
        why: in words, where it did not complete.
    """

    at_seconds: float
    outcome: Outcome
    late_seconds: float
    ttft_seconds: float | None
    itl_seconds: float | None
    seconds: float
    tokens: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask.

    Attributes:
        url: such as `http://llama`, without path.
        model: the name that requests have.
        prefill_url: of engines that compute prompts; those at `url` go on from there.
        patience_seconds: for one request.
    """

    url: str
    model: str
    prefill_url: str | None = None
    patience_seconds: float = 300.0


class _RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:200]}")
        self.outcome = Outcome.REFUSED if status in _NOBODY_TOOK_IT else Outcome.FAILED


@dataclass(slots=True)
class _Seen:
    """What came of an answer so far; times of the event loop."""

    has_begun: bool = False
    first_at: float | None = None
    last_at: float = 0.0
    chunks: int = 0
    tokens: int | None = None
    is_done: bool = False

    def line(self, line: bytes, at: float) -> None:
        """A line of the stream came."""
        if not line.startswith(_DATA):
            return
        if line.startswith(_DONE, len(_DATA)):
            self.is_done = True
        elif b'"usage"' in line:
            self.tokens = json.loads(line[len(_DATA) :])["usage"]["completion_tokens"]
        else:
            self.chunks += 1
            self.first_at = at if self.first_at is None else self.first_at
            self.last_at = at


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests, each once: nobody tries again, so that failures are seen."""

    session: aiohttp.ClientSession
    target: Target

    async def ask(self, prompt_tokens: int, output_tokens: int, at_seconds: float, late_seconds: float) -> Result:
        """One request from now on."""
        loop = asyncio.get_running_loop()
        began, seen = loop.time(), _Seen()
        outcome, why = Outcome.COMPLETED, ""
        try:
            async with asyncio.timeout(self.target.patience_seconds):
                await self._stream(prompt_tokens, output_tokens, seen)
        except _RefusedError as error:
            outcome, why = error.outcome, str(error)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            outcome, why = Outcome.REFUSED, f"no connection: {error}"
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            outcome, why = Outcome.FAILED, f"{type(error).__name__}: {error}"
        if outcome is Outcome.COMPLETED and not (seen.is_done and seen.tokens == output_tokens):
            outcome, why = Outcome.CUT, f"{seen.tokens} of {output_tokens} tokens"
        if outcome is Outcome.FAILED and seen.has_begun:
            outcome = Outcome.CUT
        is_whole = outcome is Outcome.COMPLETED and seen.first_at is not None and output_tokens > 1
        return Result(
            at_seconds=at_seconds,
            outcome=outcome,
            late_seconds=late_seconds,
            ttft_seconds=None if seen.first_at is None else seen.first_at - began,
            itl_seconds=(seen.last_at - (seen.first_at or 0.0)) / (output_tokens - 1) if is_whole else None,
            seconds=loop.time() - began,
            tokens=seen.chunks if seen.tokens is None else seen.tokens,
            why=why,
        )

    async def _stream(self, prompt_tokens: int, output_tokens: int, seen: _Seen) -> None:
        body: dict[str, Any] = {
            "model": self.target.model,
            "prompt": "a " * prompt_tokens,
            "max_tokens": output_tokens,
            "ignore_eos": True,
        }
        if self.target.prefill_url is not None:
            body["kv_transfer_params"] = await self._prefilled(self.target.prefill_url, body)
        streams = {"stream": True, "stream_options": {"include_usage": True}}
        loop = asyncio.get_running_loop()
        async with self.session.post(f"{self.target.url}/v1/completions", json={**body, **streams}) as answer:
            if answer.status != HTTPStatus.OK:
                raise _RefusedError(answer.status, await answer.text())
            seen.has_begun = True
            async for line in answer.content:
                seen.line(line, loop.time())

    async def _prefilled(self, url: str, body: Mapping[str, Any]) -> Any:
        """Lets a prompt be computed; where its keys and values are (as proxies before vLLM's NIXL connector do)."""
        asked = {**body, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
        async with self.session.post(f"{url}/v1/completions", json=asked) as answer:
            if answer.status != HTTPStatus.OK:
                raise _RefusedError(answer.status, await answer.text())
            return (await answer.json())["kv_transfer_params"]
