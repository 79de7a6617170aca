"""The engine behind the HTTP interface that OpenAI's clients and vLLM's probes speak."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aiohttp import web

from stand_in.service import Service

DEFAULT_OUTPUT_TOKENS: Final = 16
WORD: Final = " word"
DONE: Final = b"data: [DONE]\n\n"


class Role(StrEnum):
    """Which part of the work an engine does."""

    UNIFIED = "unified"
    PREFILL = "prefill"
    """Prompts alone: an answer ends after its first token, and says where the KV cache is."""
    DECODE = "decode"
    """Goes on from the KV cache that a request says is there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    model: str
    prompt_tokens: int
    output_tokens: int
    streams: bool
    tells_usage: bool
    is_prefilled: bool

    @classmethod
    def of(cls, document: dict[str, Any], model: str) -> Asked:
        """From the body of a request, which may leave out the model.

        Raises:
            ValueError: it is none.
        """
        prompt = document.get("prompt")
        if prompt is None:
            messages = document.get("messages")
            if not isinstance(messages, list):
                raise ValueError("prompt or messages must be given")
            prompt = " ".join(str(one.get("content", "")) for one in messages)
        output = document.get("max_completion_tokens", document.get("max_tokens", DEFAULT_OUTPUT_TOKENS))
        if not isinstance(prompt, str | list) or not isinstance(output, int) or output < 1:
            raise ValueError("prompt must be text or a list of tokens, max_tokens a number from 1 on")
        return cls(
            model=str(document.get("model", model)),
            prompt_tokens=max(1, len(prompt.split() if isinstance(prompt, str) else prompt)),
            output_tokens=output,
            streams=document.get("stream") is True,
            tells_usage=bool((document.get("stream_options") or {}).get("include_usage")),
            is_prefilled=bool((document.get("kv_transfer_params") or {}).get("do_remote_prefill")),
        )


class Server:
    """Answers by a service. A word of the prompt is a token, and every answer has as many tokens as it may."""

    def __init__(self, service: Service, model: str, role: Role = Role.UNIFIED) -> None:
        self._service, self._model, self._role = service, model, role
        self._numbers = itertools.count(1)
        self.is_ending = False

    def app(self) -> web.Application:
        """All that is asked by HTTP. It needs a runner with `handler_cancellation`, to learn that a client is gone."""
        app = web.Application()
        app.add_routes([
            web.get("/health", self._health),
            web.get("/metrics", self._metrics),
            web.get("/v1/models", self._models),
            web.post("/v1/completions", self._completions),
            web.post("/v1/chat/completions", self._chat),
        ])  # fmt: skip
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self.is_ending else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._service.metrics.text(), content_type="text/plain", charset="utf-8")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self._model, "object": "model"}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _Completion(f"cmpl-{next(self._numbers)}", self._model))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _Chat(f"chatcmpl-{next(self._numbers)}", self._model))

    async def _answer(self, request: web.Request, form: _Completion) -> web.StreamResponse:
        if self.is_ending:
            return _refused(503, "the engine is ending")
        try:
            asked = Asked.of(await request.json(), self._model)
        except ValueError as error:
            return _refused(400, str(error))
        if asked.model != self._model:
            return _refused(404, f"there is no model {asked.model}")
        output = 1 if self._role is Role.PREFILL else asked.output_tokens
        if not self._service.engine.fits(asked.prompt_tokens, output):
            return _refused(400, f"{asked.prompt_tokens} tokens of prompt and {output} of output are too many")
        is_prefilled = self._role is Role.DECODE and asked.is_prefilled
        tokens = self._service.tokens(asked.prompt_tokens, output, is_prefilled=is_prefilled)
        async with contextlib.aclosing(tokens):
            if asked.streams:
                return await self._stream(request, form, tokens, asked, output)
            async for _ in tokens:
                pass
        answer = form.whole(output, asked.prompt_tokens)
        if self._role is Role.PREFILL:
            answer["kv_transfer_params"] = {"do_remote_prefill": True, "remote_engine_id": self._model}
        return web.json_response(answer)

    async def _stream(
        self, request: web.Request, form: _Completion, tokens: AsyncIterator[int], asked: Asked, output: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        first, middle, last = form.first(), form.middle(), form.last()
        async for number in tokens:
            if number == 1:
                await response.prepare(request)
            await response.write(last if number == output else first if number == 1 else middle)
        await response.write((form.usage(output, asked.prompt_tokens) if asked.tells_usage else b"") + DONE)
        return response


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


def _usage(output_tokens: int, prompt_tokens: int) -> dict[str, int]:
    total = prompt_tokens + output_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens, "total_tokens": total}


@dataclass(frozen=True, slots=True)
class _Completion:
    """Answers of `/v1/completions`; chunks of a stream are the same for all tokens but the first and the last."""

    name: str
    model: str
    kind = "text_completion"
    streamed_kind = "text_completion"

    def first(self) -> bytes:
        return self.middle()

    def middle(self) -> bytes:
        return self._chunk(self._part(None))

    def last(self) -> bytes:
        return self._chunk(self._part("length"))

    def usage(self, output_tokens: int, prompt_tokens: int) -> bytes:
        return self._chunk(usage=_usage(output_tokens, prompt_tokens))

    def whole(self, output_tokens: int, prompt_tokens: int) -> dict[str, Any]:
        """The answer in one piece."""
        choice = {"index": 0, "finish_reason": "length", **self._text(WORD * output_tokens)}
        usage = _usage(output_tokens, prompt_tokens)
        return {"id": self.name, "object": self.kind, "model": self.model, "choices": [choice], "usage": usage}

    def _part(self, finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": WORD, "finish_reason": finish_reason}

    def _text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _chunk(self, *choices: dict[str, Any], **more: Any) -> bytes:
        head = {"id": self.name, "object": self.streamed_kind, "model": self.model}
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class _Chat(_Completion):
    """The same of `/v1/chat/completions`."""

    kind = "chat.completion"
    streamed_kind = "chat.completion.chunk"

    def first(self) -> bytes:
        part = self._part(None)
        return self._chunk({**part, "delta": {"role": "assistant", **part["delta"]}})

    def _part(self, finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "delta": {"content": WORD}, "finish_reason": finish_reason}

    def _text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}
