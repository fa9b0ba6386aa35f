"""The OpenAI-compatible interface: POST /v1/chat/completions and GET /v1/models.

https://platform.openai.com/docs/api-reference/chat: errors, chunks and usage have its forms.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import ceil
from typing import Any, NamedTuple
from uuid import uuid4

from aiohttp import web

from glmbot.errors import (
    ContentRefused,
    EngineError,
    EngineStopped,
    LimitReached,
    ModelUnavailable,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)
from glmbot.keys import UserKey
from glmbot.messages import Completion, Reply, ReplyState, Usage
from glmbot.ports import Completions
from glmbot_web import events
from glmbot_web.bodies import BadRequest, parsed
from glmbot_web.events import sse, with_pings
from glmbot_web.normalize import ChatCompletionRequest, openai_completion

__all__ = ["OpenAiApi", "Program", "failure", "openai_error"]

_log = logging.getLogger(__name__)

_LONGEST_NAME = 200


class Program(NamedTuple):
    """Who asks without a page, and from where (`Message.source`)."""

    user: UserKey
    source: str


class Failure(NamedTuple):
    """`wait_s`: when it is worth trying again; 0: nobody knows."""

    status: int
    message: str
    code: str | None = None
    wait_s: float = 0.0


def failure(error: Exception) -> Failure | None:
    """What a program is told of an error of ours; None for what is none of these."""
    match error:
        case ContentRefused():
            return Failure(400, str(error), "content_filter")
        case PromptTooLong():
            # OpenAI's own words, by which clients (litellm, crewAI) know to shorten what they send.
            words = f"This model's maximum context length is {error.limit} tokens. However, {error}."
            return Failure(400, words, "context_length_exceeded")
        case PromptInvalid():
            return Failure(400, str(error), "invalid_prompt")
        case QueueFull():
            return Failure(429, str(error), "queue_full", error.again_after_s)
        case LimitReached():
            return Failure(429, str(error), "rate_limit_exceeded", error.wait_s)
        case EngineStopped():
            return Failure(503, str(error), "stopping")
        case ServerUnavailable():
            return Failure(503, str(error), "unavailable")
        case ModelUnavailable():
            return Failure(503, str(error), "model_unavailable")
        case EngineError():
            return Failure(500, str(error), "engine")
        case ValueError():
            return Failure(400, str(error))
        case _:
            return None


class OpenAiApi:
    def __init__(self, dialogue: Completions, program: Callable[[web.Request], Program]) -> None:
        self._dialogue = dialogue
        self._program = program
        self._started = int(time.time())

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{name:.+}", self.model),
            web.post("/v1/chat/completions", self.chat_completions),
        ]

    async def models(self, _: web.Request) -> web.Response:
        listed = [self._model(name) for name in self._dialogue.models()]
        return web.json_response({"object": "list", "data": listed})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._dialogue.models():
            words = f"the model {name[:_LONGEST_NAME]!r} does not exist"
            return openai_error(404, words, code="model_not_found")
        return web.json_response(self._model(name))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        try:
            wish = await parsed(ChatCompletionRequest, await request.read())
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        try:
            completion = openai_completion(wish, *self._program(request))
            if wish.stream:
                return await self._stream(request, wish, completion)
            last = Reply("", ReplyState.FINAL)
            async with aclosing(self._dialogue.complete(completion)) as replies:
                async for reply in replies:
                    last = reply
            return web.json_response(self._whole(wish, last))
        except Exception as error:
            found = failure(error)
            if found is None:
                raise
            headers = {"Retry-After": str(max(1, ceil(found.wait_s)))} if found.wait_s else None
            return openai_error(found.status, found.message, code=found.code, headers=headers)

    async def _stream(
        self, request: web.Request, wish: ChatCompletionRequest, completion: Completion
    ) -> web.StreamResponse:
        """Comments tell clients and proxies that it is still worth waiting, for a place in line or for a word.

        Raises what `complete` raises before anything is sent; what comes later is an event.
        """
        replies = with_pings(self._dialogue.complete(completion), events.PING_S)
        async with aclosing(replies):
            last = await anext(replies)
            response = sse()
            await response.prepare(request)
            try:
                await self._chunks(response, wish, last, replies)
            except (ConnectionResetError, asyncio.CancelledError):
                raise
            except Exception as error:
                found = failure(error)
                if found is None:
                    _log.exception("an answer failed")
                    found = Failure(500, "something went wrong here; the log has it")
                told = {
                    "message": found.message,
                    "type": _kind(found.status),
                    "code": found.code,
                    "param": None,
                }
                await response.write(_event({"error": told}))
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            return response

    async def _chunks(
        self,
        response: web.StreamResponse,
        wish: ChatCompletionRequest,
        last: Reply | None,
        replies: AsyncGenerator[Reply | None, None],
    ) -> None:
        head = self._head(wish, "chat.completion.chunk")

        async def send(delta: dict[str, str], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            await response.write(_event({**head, "choices": [choice]}))

        await send({"role": "assistant", "content": ""})
        shown = thought = ""
        while True:
            if last is None:
                await response.write(events.PING)
            else:
                if len(last.thought) > len(thought):
                    await send({"reasoning_content": last.thought[len(thought) :]})
                    thought = last.thought
                if len(last.text) > len(shown):
                    await send({"content": last.text[len(shown) :]})
                    shown = last.text
            if last is not None and last.finish_reason is not None:
                break
            last = await anext(replies)
        await send({}, _finish_reason(last))
        if wish.stream_options is not None and wish.stream_options.include_usage:
            await response.write(_event({**head, "choices": [], "usage": _usage(last.usage)}))

    def _whole(self, wish: ChatCompletionRequest, reply: Reply) -> dict[str, Any]:
        # As DeepSeek, vLLM and SGLang call it.
        thought = {"reasoning_content": reply.thought} if reply.thought else {}
        return {
            **self._head(wish, "chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply.text, **thought, "refusal": None},
                    "logprobs": None,
                    "finish_reason": _finish_reason(reply),
                }
            ],
            "usage": _usage(reply.usage),
        }

    def _head(self, wish: ChatCompletionRequest, kind: str) -> dict[str, Any]:
        wished = wish.model
        # The same in another case will do, and else the default, which is the first.
        known = min(
            self._dialogue.models(), key=lambda each: (each != wished, each.lower() != wished.lower())
        )
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": known,
        }

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "glmbot"}


def openai_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    error = {"message": message, "type": _kind(status), "param": param, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _kind(status: int) -> str:
    return {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )


def _event(fields: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def _finish_reason(reply: Reply) -> str:
    """The interface knows no deadline; a client treats it like any other cut."""
    return reply.finish_reason if reply.finish_reason in ("stop", "content_filter") else "length"


def _usage(usage: Usage | None) -> dict[str, int]:
    used = usage or Usage()
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }
