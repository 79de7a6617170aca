"""What may be asked of the engine without a model, and how it shares its work with others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from harness.stand_in_engines import PERFORMANCE, asked, engine, scraped, session_to
from harness.virtual_sockets import run
from stand_in.client import Client, Outcome, Result, Target
from stand_in.server import Role

# --- prefill and decode apart ---


def test_an_engine_for_prompts_ends_with_the_first_token(tmp_path: Path) -> None:
    body = {"prompt": "a " * 1000, "max_tokens": 50}

    async def story() -> tuple[dict[str, Any], float]:
        async with engine(tmp_path, role=Role.PREFILL), asked(tmp_path, "completions", body) as answer:
            return await answer.json(), asyncio.get_running_loop().time()

    answer, seconds = run(story())
    assert answer["usage"] == {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
    assert answer["kv_transfer_params"]["do_remote_prefill"] is True
    assert seconds == pytest.approx(PERFORMANCE.lone_prefill_seconds(1000), abs=1e-6)


def test_an_engine_for_decoding_goes_on_from_a_prompt_that_is_computed(tmp_path: Path) -> None:
    prefill, decode = tmp_path / "prefill", tmp_path / "decode"

    async def story() -> tuple[Result, dict[str, float]]:
        prefill.mkdir()
        decode.mkdir()
        async with (
            engine(prefill, role=Role.PREFILL),
            engine(decode, role=Role.DECODE),
            session_to(prefill) as first,
            session_to(decode) as then,
        ):
            sessions: Any = _Pair(first, then)
            pair = Client(sessions, Target("http://decode", "stand-in", prefill_url="http://prefill"))
            return await pair.ask(1000, 11, 0.0, 0.0), await scraped(then)

    result, metrics = run(story())
    assert result.outcome is Outcome.COMPLETED, result.why
    first = PERFORMANCE.lone_prefill_seconds(1000) + PERFORMANCE.decode_step_seconds(1, 1000)
    assert result.ttft_seconds == pytest.approx(first, abs=1e-6)
    assert metrics["vllm:generation_tokens_total"] == 11


class _Pair:
    """Two sessions over Unix sockets as one."""

    def __init__(self, prefill: aiohttp.ClientSession, decode: aiohttp.ClientSession) -> None:
        self._by_host = {"prefill": prefill, "decode": decode}

    def post(self, url: str, **fields: Any) -> Any:
        return self._by_host[urlsplit(url).netloc].post(url, **fields)


# --- what is asked ---


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("completions", {"prompt": "a b", "max_tokens": 3}, 200, id="text"),
        pytest.param("completions", {"prompt": [1, 2], "max_tokens": 3, "model": "stand-in"}, 200, id="tokens"),
        pytest.param("chat/completions", {"messages": [{"role": "user", "content": "a b"}]}, 200, id="a chat"),
        pytest.param("completions", {"max_tokens": 3}, 400, id="no prompt"),
        pytest.param("completions", {"prompt": "a", "max_tokens": 0}, 400, id="no output"),
        pytest.param("completions", {"prompt": "a " * 4000, "max_tokens": 2}, 400, id="more than the cache holds"),
        pytest.param("completions", {"prompt": "a", "model": "another"}, 404, id="another model"),
    ],
)
def test_requests(tmp_path: Path, path: str, body: dict[str, Any], status: int) -> None:
    async def story() -> tuple[int, dict[str, Any]]:
        async with engine(tmp_path), asked(tmp_path, path, body) as answer:
            return answer.status, await answer.json()

    found, answer = run(story())
    assert found == status, answer
    if status == 200:
        assert answer["usage"]["prompt_tokens"] == 2
        assert answer["usage"]["completion_tokens"] == body.get("max_tokens", 16)


def test_a_streamed_chat_names_its_role_once_and_each_token(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3, "stream": True}

    async def story() -> list[str]:
        async with engine(tmp_path), asked(tmp_path, "chat/completions", body) as answer:
            return [line.decode() async for line in answer.content if line.strip()]

    lines = run(story())
    assert len(lines) == 4
    assert ["assistant" in line for line in lines] == [True, False, False, False]
    assert ['"length"' in line for line in lines] == [False, False, True, False]
    assert lines[-1] == "data: [DONE]\n"


def test_it_names_its_model(tmp_path: Path) -> None:
    async def story() -> dict[str, Any]:
        async with engine(tmp_path, model="llama"), session_to(tmp_path) as session:
            answer = await session.get("http://engine/v1/models")
            return await answer.json()

    assert [one["id"] for one in run(story())["data"]] == ["llama"]
