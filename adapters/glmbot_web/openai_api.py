"""The OpenAI-compatible interface: POST /v1/chat/completions and GET /v1/models.

https://platform.openai.com/docs/api-reference/chat: errors, chunks and usage have its forms.
"""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from math import ceil
from typing import Any
from uuid import uuid4

from aiohttp import web

from glmbot.errors import (
    ContentRefused,
    EngineError,
    EngineStopped,
    LimitReached,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)
from glmbot.messages import Dialogue, Reply, Usage, UserKey
from glmbot_web.delivery import sse
from glmbot_web.normalize import (
    PLATFORM,
    BadRequest,
    ChatCompletionRequest,
    openai_completion,
    parse,
)

__all__ = ["OpenAiApi", "openai_error"]

_ANYBODY = UserKey(PLATFORM, 0)


class OpenAiApi:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._started = int(time.time())

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{name:.+}", self.model),
            web.post("/v1/chat/completions", self.chat_completions),
        ]

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model()]})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name != self._dialogue.health().model:
            return openai_error(404, f"the model {name!r} does not exist", code="model_not_found")
        return web.json_response(self._model())

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        try:
            wish = parse(ChatCompletionRequest, await request.read())
            replies = self._dialogue.complete(openai_completion(wish, _ANYBODY))
            async with aclosing(replies):
                first = await anext(replies)
                if wish.stream:
                    return await self._stream(request, wish, first, replies)
                last = first
                async for reply in replies:
                    last = reply
            return web.json_response(self._whole(last))
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        except ValueError as error:
            return openai_error(400, str(error))
        except ContentRefused as error:
            return openai_error(400, str(error), code="content_filter")
        except PromptTooLong as error:
            return openai_error(400, f"too long for the context: {error}", code="context_length_exceeded")
        except QueueFull as error:
            again = {"Retry-After": str(error.again_after_s)}
            return openai_error(429, str(error), code="queue_full", headers=again)
        except LimitReached as error:
            wait = str(max(1, ceil(error.wait_s)))
            return openai_error(429, str(error), code="rate_limit_exceeded", headers={"Retry-After": wait})
        except EngineStopped as error:
            return openai_error(503, str(error), code="stopping")
        except ServerUnavailable as error:
            return openai_error(503, str(error), code="unavailable")
        except EngineError as error:
            return openai_error(500, str(error), code="engine")

    async def _stream(
        self, request: web.Request, wish: ChatCompletionRequest, first: Reply, replies: Any
    ) -> web.StreamResponse:
        response = sse()
        await response.prepare(request)
        head = self._head("chat.completion.chunk")

        async def send(**fields: Any) -> None:
            await response.write(f"data: {json.dumps({**head, **fields})}\n\n".encode())

        def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]

        await send(choices=choice({"role": "assistant", "content": ""}))
        shown, last = "", first
        try:
            while True:
                if len(last.text) > len(shown):
                    await send(choices=choice({"content": last.text[len(shown) :]}))
                    shown = last.text
                if last.finish_reason is not None:
                    break
                last = await anext(replies)
        except EngineError as error:
            await send(error={"message": str(error), "type": "server_error", "code": "engine", "param": None})
        else:
            await send(choices=choice({}, _finish_reason(last)))
            if wish.stream_options is not None and wish.stream_options.include_usage:
                await send(choices=[], usage=_usage(last.usage))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _whole(self, reply: Reply) -> dict[str, Any]:
        return {
            **self._head("chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": _finish_reason(reply),
                }
            ],
            "usage": _usage(reply.usage),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self._dialogue.health().model,
        }

    def _model(self) -> dict[str, Any]:
        name = self._dialogue.health().model
        return {"id": name, "object": "model", "created": self._started, "owned_by": "glmbot"}


def openai_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


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
