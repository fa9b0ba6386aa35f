"""A model server on the completions interface, with a real engine behind it, that fails in the ways of real ones.

Held against the real thing by `make chaos`, where llama.cpp's own server stands in its place.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

from aiohttp import web

from glmbot.engine.base import TokenEngine
from glmbot.engine.completions_api import CompletionRefused, completion_events, detokenized, model_list
from platforms.listener import Listener

KEY = "sk-0123456789abcdef-of-a-model-server"


class OpenAIServer:
    """`dies_after`: events, after which the connection breaks, once; with `stays_down` everybody is refused from then
    on. `stalls_after` likewise, and nothing comes any more. `refuses` is a status, given with `retry_after` until it is taken back."""

    def __init__(self, engine: TokenEngine, *, key: str = "") -> None:
        self.engine = engine
        self.requests: list[dict[str, Any]] = []
        self.chats: list[dict[str, Any]] = []
        self.dies_after: int | None = None
        self.stays_down = False
        self.stalls_after: int | None = None
        self.refuses: int | None = None
        self.refusal = "we are closed"
        self.retry_after: str | None = None
        self.lists_models = True
        self.thinks: list[dict[str, Any]] = []
        """Deltas in front of what a chat says."""
        self._key = key
        self._listener = Listener()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/detokenize", self._detokenize)
        address = await self._listener.open(app, port=self._port, cancels=True)
        self._port = int(address.rpartition(":")[2])

    async def stop(self) -> None:
        await self._listener.close()

    def _die(self, request: web.Request) -> None:
        self.dies_after = None
        if self.stays_down:
            self.refuses = 503
        assert request.transport is not None
        request.transport.abort()

    async def _models(self, request: web.Request) -> web.Response:
        if not self.lists_models:
            raise web.HTTPNotFound
        self._check(request)
        return web.json_response(model_list(self.engine))

    async def _detokenize(self, request: web.Request) -> web.Response:
        return web.json_response(detokenized(self.engine, await request.json()))

    def _check(self, request: web.Request) -> None:
        if self._key and request.headers.get("Authorization") != f"Bearer {self._key}":
            # OpenAI's own answer repeats the key that it was given.
            words = f"Incorrect API key provided: {request.headers.get('Authorization')}"
            raise web.HTTPUnauthorized(text=json.dumps({"error": {"message": words}}))

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        fields = await request.json()
        self.requests.append(fields)
        self._check(request)
        if self.refuses is not None:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            body = json.dumps({"error": {"message": self.refusal}})
            return web.Response(status=self.refuses, text=body, headers=headers)
        answer: web.StreamResponse | None = None
        number = 0
        async with aclosing(completion_events(self.engine, fields)) as events:
            try:
                async for event in events:
                    if answer is None:
                        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                        await answer.prepare(request)
                    if number == self.dies_after:
                        self._die(request)
                        return answer
                    if number == self.stalls_after:
                        self.stalls_after = None
                        await asyncio.sleep(3600)
                    await answer.write(event)
                    number += 1
            except CompletionRefused as refused:
                headers = {"Retry-After": str(refused.again_after_s)} if refused.again_after_s else {}
                return web.json_response(refused.body, status=refused.status, headers=headers)
        assert answer is not None
        return answer

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        """What it was told is said again, a word at a time."""
        fields = await request.json()
        self.chats.append(fields)
        self._check(request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for thought in self.thinks:
            await answer.write(self._event({"choices": [{"delta": thought, "finish_reason": None}]}))
        words = fields["messages"][-1]["content"].split(" ")
        for number, word in enumerate(words):
            if number == self.dies_after:
                self._die(request)
                return answer
            delta: dict[str, Any] = {"content": word + " " * (number < len(words) - 1)}
            await answer.write(self._event({"choices": [{"delta": delta, "finish_reason": None}]}))
        await answer.write(self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        # As OpenAI does, the count comes in an event of its own.
        await answer.write(
            self._event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(words)}})
        )
        await answer.write(b"data: [DONE]\n\n")
        return answer

    def _event(self, fields: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(fields).encode() + b"\n\n"
