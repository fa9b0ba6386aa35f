"""The OpenAI-compatible interface: chats, texts, responses, the models there are.

https://platform.openai.com/docs/api-reference: errors, chunks and usage have its forms.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from glmbot.messages import Reply
from glmbot.ports import Completions
from glmbot_web import events
from glmbot_web.bodies import BadRequest, parsed
from glmbot_web.chat_form import ChatForm
from glmbot_web.choices import NOTHING, growing
from glmbot_web.events import sse, with_pings
from glmbot_web.normalize import ChatCompletionRequest, openai_completions
from glmbot_web.openai_errors import Failure, failure, openai_error, refused
from glmbot_web.openai_form import Form
from glmbot_web.program import Program
from glmbot_web.responses_form import ResponsesForm
from glmbot_web.responses_request import ResponsesRequest, response_completion
from glmbot_web.text_form import TextCompletionRequest, TextForm, text_completions

__all__ = ["OpenAiApi"]

_log = logging.getLogger(__name__)

_LONGEST_NAME = 200
# More scores than this are written beside everybody else's answers.
_MANY_SCORES = 500


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
            web.post("/v1/completions", self.completions),
            web.post("/v1/responses", self.responses),
            web.post("/v1/embeddings", self.embeddings),
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
        async def read(body: bytes) -> Form:
            wish = await parsed(ChatCompletionRequest, body)
            completions = openai_completions(wish, *self._program(request))
            return ChatForm(wish, completions, self._known(wish.model))

        return await self._answered(request, read)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        async def read(body: bytes) -> Form:
            wish = await parsed(TextCompletionRequest, body)
            completions = text_completions(wish, self._program(request))
            return TextForm(wish, completions, self._known(wish.model))

        return await self._answered(request, read)

    async def responses(self, request: web.Request) -> web.StreamResponse:
        async def read(body: bytes) -> Form:
            wish = await parsed(ResponsesRequest, body)
            completion = response_completion(wish, self._program(request))
            return ResponsesForm(wish, completion, self._known(wish.model))

        return await self._answered(request, read)

    async def embeddings(self, _: web.Request) -> web.Response:
        """What a model that was made for talking has inside says little of how near two texts are."""
        words = (
            "models that are made for talking define no embedding of a text; ask a server of an embedding model,"
            " such as llama.cpp's or text-embeddings-inference"
        )
        return openai_error(400, words, code="not_supported", param="model")

    async def _answered(
        self, request: web.Request, read: Callable[[bytes], Awaitable[Form]]
    ) -> web.StreamResponse:
        try:
            form = await read(await request.read())
        except BadRequest as error:
            return openai_error(400, str(error), param=error.field or None)
        try:
            return await (self._stream(request, form) if form.stream else self._whole(form))
        except Exception as error:
            found = failure(error)
            if found is None:
                raise
            return refused(found)

    async def _whole(self, form: Form) -> web.Response:
        replies: Sequence[Reply] = ()
        async with aclosing(growing(self._dialogue, form.completions)) as grown:
            async for newest in grown:
                replies = newest
        if sum(len(reply.scores) + len(reply.prompt_scores) for reply in replies) < _MANY_SCORES:
            return web.json_response(form.whole(replies))
        body = await asyncio.to_thread(lambda: json.dumps(form.whole(replies)))
        return web.json_response(text=body)

    async def _stream(self, request: web.Request, form: Form) -> web.StreamResponse:
        """Comments tell clients and proxies that it is still worth waiting, for a place in line or for a word.

        Raises what `complete` raises before anything is sent; what comes later is an event.
        """
        grown = with_pings(growing(self._dialogue, form.completions), events.PING_S)
        async with aclosing(grown):
            first = await anext(grown)
            response = sse()
            await response.prepare(request)
            try:
                await _write(response, form, first, grown)
            except (ConnectionResetError, asyncio.CancelledError):
                raise
            except Exception as error:
                found = failure(error)
                if found is None:
                    _log.exception("an answer failed")
                    found = Failure(500, "something went wrong here; the log has it")
                for event in form.failed(found):
                    await response.write(event)
            await response.write_eof()
            return response

    def _known(self, wished: str) -> str:
        # The same in another case will do, and else the default, which is the first.
        return min(self._dialogue.models(), key=lambda each: (each != wished, each.lower() != wished.lower()))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "glmbot"}


_Grown = Sequence[Reply] | None
"""None: nothing has come for a while."""


async def _write(
    response: web.StreamResponse, form: Form, first: _Grown, grown: AsyncGenerator[_Grown, None]
) -> None:
    replies: Sequence[Reply] = [NOTHING] * len(form.completions)
    for event in form.opening():
        await response.write(event)
    last = first
    while True:
        if last is None:
            await response.write(events.PING)
        else:
            for number, (reply, before) in enumerate(zip(last, replies, strict=True)):
                for event in form.grown(number, reply) if reply is not before else ():
                    await response.write(event)
            replies = last
        if all(reply.finish_reason is not None for reply in replies):
            break
        last = await anext(grown)
    for event in form.closing(replies):
        await response.write(event)
