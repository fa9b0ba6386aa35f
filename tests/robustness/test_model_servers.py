"""The worst values in every field, header and byte that a model server answers, beside the answer of another one."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from glmbot.engine.base import Conversation, Engine, Sampling
from glmbot.engine.remote import RemoteEngineSettings, start_remote
from glmbot.engine.templated import answering_conversations
from glmbot.errors import GlmbotError
from platforms.listener import Listener
from platforms.openai_server import OpenAIServer
from robustness.scripted import SAID, ScriptedEngine
from robustness.values import TEXTS, cases, sampled, some
from robustness.watch import Watch, watching

MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 2048, "owned_by": "x"}]}
_USAGE = {
    "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 3}
}  # fmt: skip
EVENTS: dict[str, Any] = {
    "chat": {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}], "usage": _USAGE},
    "completions": {"id": "c", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}], "usage": _USAGE},
    "error": {"error": {"message": "no", "code": 500, "type": "x", "param": None}},
}  # fmt: skip
_LONGEST_S = 90.0


class HostileServer:
    """`models` and `answer` are what it says next: an answer's bytes, or a way to write it."""

    def __init__(self) -> None:
        self.models: bytes = json.dumps(MODELS).encode()
        self.status, self.headers = 200, dict[str, str]()
        self.answer: bytes | Callable[[web.StreamResponse], Awaitable[None]] = b""
        self._listener = Listener()
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/{path:.*}", self._answer)
        self.url = f"http://{await self._listener.open(app, cancels=True)}/v1"

    async def stop(self) -> None:
        await self._listener.close()

    async def _models(self, _: web.Request) -> web.Response:
        return web.Response(body=self.models, content_type="application/json")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        if isinstance(self.answer, bytes):
            await response.write(self.answer)
        else:
            await self.answer(response)
        return response


@asynccontextmanager
async def engine_of(
    url: str, tokenizer: Path | None, *, first_token_s: float = 5.0, next_token_s: float = 2.0
) -> AsyncGenerator[Engine]:
    settings = RemoteEngineSettings(
        [url], tokenizer, first_token_s=first_token_s, next_token_s=next_token_s, patience_s=0.0
    )
    engine = answering_conversations(await start_remote(settings))
    try:
        yield engine
    finally:
        await engine.close()


async def answer_of(engine: Engine, question: str, *, deadline_s: float = 10.0) -> str:
    prompt = engine.prepare(Conversation.of_words(question), 1000)
    text = ""
    sampling = Sampling(max_tokens=20, temperature=0)
    async with aclosing(engine.generate(prompt, sampling, user="ann", deadline_s=deadline_s)) as answer:
        async for progress in answer:
            text = progress.text
    return text


async def survived(
    watch: Watch, case: object, server: HostileServer, tokenizer: Path | None, *, deadline_s: float = 10.0
) -> None:
    """Whatever it says, it is an answer, or an error in words, in bounded time."""
    with watch.trying(case):
        try:
            async with asyncio.timeout(_LONGEST_S), engine_of(server.url, tokenizer) as engine:
                text = await answer_of(engine, "hello", deadline_s=deadline_s)
                engine.stats()
                if len(text) > 100_000:
                    watch.blame(f"an answer of {len(text)} characters to a question for 20 tokens")
        except GlmbotError as error:
            if len(str(error)) > 3_000 or not str(error).isprintable():
                watch.blame(f"words: {str(error)[:300]!r}")
        except TimeoutError:
            watch.blame("still at it")
        except Exception as error:
            watch.blame(f"{type(error).__name__}: {str(error)[:500]}")


@pytest.fixture
async def hostile() -> AsyncGenerator[HostileServer]:
    server = HostileServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def somebody_else() -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Is served by another server all the while."""
    scripted: Any = ScriptedEngine()
    server = OpenAIServer(scripted)
    await server.start()
    async with engine_of(server.url, None) as engine:

        async def answered() -> None:
            assert await answer_of(engine, SAID) == SAID

        yield answered
    await server.stop()


def stream(event: str) -> bytes:
    return b"data: " + event.replace("\n", " ").encode("utf-8", "surrogatepass") + b"\n\ndata: [DONE]\n\n"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", EVENTS)
async def test_the_worst_server_events_harm_nobody_else(
    hostile: HostileServer, somebody_else: Callable[[], Awaitable[None]], tiny_model: Path, kind: str
) -> None:
    tokenizer = tiny_model if kind == "completions" else None
    async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
        for case in sampled(cases(EVENTS[kind]), 25):
            hostile.answer = stream(case.text)
            await survived(watch, f"{kind}: {case}", hostile, tokenizer)


@pytest.mark.timeout(3600)
async def test_the_worst_lists_of_models_and_refusals_harm_nobody_else(
    hostile: HostileServer, somebody_else: Callable[[], Awaitable[None]]
) -> None:
    good = stream(json.dumps(EVENTS["chat"]))
    async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
        hostile.answer = good
        for case in sampled(cases(MODELS), 20):
            hostile.models = case.text.encode("utf-8", "surrogatepass")
            await survived(watch, f"models: {case}", hostile, None)
        hostile.models = json.dumps(MODELS).encode()
        hostile.status = 503
        for name, text in some(list(TEXTS.items()), 15):
            value = "".join(char for char in text[:500] if char.isprintable() and char.isascii())
            hostile.headers = {"Retry-After": value}
            hostile.answer = text[:200_000].encode("utf-8", "surrogatepass")
            await survived(watch, f"Retry-After and words = {name}", hostile, None)


async def _endless_line(response: web.StreamResponse) -> None:
    await response.write(b"data: ")
    while True:
        await response.write(b"a" * 65_536)


async def _endless_events(response: web.StreamResponse) -> None:
    event = stream(json.dumps({"choices": [{"delta": {"content": "word " * 500}}]})).split(b"data: [DONE]")[0]
    while True:
        await response.write(event * 20)


async def _endless_comments(response: web.StreamResponse) -> None:
    while True:
        await response.write(b": still here\n\n" * 1_000)


async def _endless_empty_events(response: web.StreamResponse) -> None:
    while True:
        await response.write(b'data: {"choices": [{"delta": {"content": ""}}]}\n\n' * 100)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", [_endless_line, _endless_events, _endless_comments, _endless_empty_events])
@pytest.mark.parametrize("status", [200, 500])
async def test_what_never_ends_is_ended(
    hostile: HostileServer, somebody_else: Callable[[], Awaitable[None]], what: Any, status: int
) -> None:
    hostile.answer, hostile.status = what, status
    async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
        await survived(watch, what.__name__, hostile, None, deadline_s=1.5)


@pytest.mark.timeout(3600)
async def test_bytes_that_are_no_answer_harm_nobody_else(
    hostile: HostileServer, somebody_else: Callable[[], Awaitable[None]]
) -> None:
    bomb = gzip.compress(b" " * 100_000_000, 1)
    async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
        for headers, answer in (
            ({}, b""), ({}, b"\x00" * 1000), ({}, b"data: \xff\xfe\n\n"), ({}, b"data:\n\ndata:\n\n"),
            ({"Content-Encoding": "gzip"}, bomb), ({"Content-Encoding": "gzip"}, b"no gzip"),
        ):  # fmt: skip
            hostile.headers, hostile.answer = headers, answer
            await survived(watch, f"{headers} {answer[:20]!r}", hostile, None)
        hostile.headers = {}
        hostile.answer = stream(json.dumps(EVENTS["chat"]))
        for models in (b"", b"\x00", b"\xff", b"[" * 1_000_000, b" " * 50_000_000):
            hostile.models = models
            await survived(watch, f"models: {models[:20]!r}", hostile, None)
