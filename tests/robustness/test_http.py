"""The worst values in every route, path, query, header, cookie and field of a body, beside somebody else's answer."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web as aiohttp_web
from pydantic import BaseModel

import glmbot_web
from adapters.test_web import web
from adapters.waiting import until_async
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_web.normalize import (
    BranchChoice,
    ChatCompletionRequest,
    ChatGlmRequest,
    Login,
    OperatorCommand,
    PageMessage,
    PanelWish,
)
from glmbot_web.responses_request import ResponsesRequest
from glmbot_web.text_form import TextCompletionRequest
from robustness.raw_http import Answer, request
from robustness.schemas import example_of
from robustness.values import TEXTS, Case, cases, sampled, some
from robustness.watch import Watch, watching


class Anything(BaseModel):
    """Of what is refused, whatever it says."""

    model: str


BODIES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/": (ChatGlmRequest, {}),
    "/api/login": (Login, {}),
    "/api/messages": (PageMessage, {}),
    "/api/branch": (BranchChoice, {}),
    "/api/admin/command": (OperatorCommand, {}),
    "/api/admin/panels/{name}": (
        PanelWish,
        {"do": "add", "name": "notes", "server": {"command": ["server"], "env": {"KEY": "1"}, "timeout_s": 3}},
    ),
    "/v1/chat/completions": (
        ChatCompletionRequest,
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "and?"},
            ],
            "max_tokens": 1, "max_completion_tokens": 1, "logprobs": True,
        },
    ),
    "/v1/responses": (ResponsesRequest, {"include": None, "input": [{"role": "user", "content": "hi"}]}),
    "/v1/embeddings": (Anything, {}),
    "/v1/completions": (TextCompletionRequest, {"prompt": "hi", "max_tokens": 1, "stream": False}),
}  # fmt: skip
# An answer may be refused because the bot is busy, or wait for what never comes; nothing else above 499 is right.
_FINE = {501, 503}
_SOURCE = "\n".join(file.read_text("utf-8") for file in Path(glmbot_web.__path__[0]).glob("*.py"))
_SPOKEN = 40
_AT_ONCE = 4
# What the server and the browser's laws read besides the adapter's own code.
_HEADERS = {
    "Host", "Origin", "Cookie", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Expect",
    "Range", "Upgrade", "X-Forwarded-For", "X-Forwarded-Proto",
}  # fmt: skip


@pytest.fixture
async def site(engine: LocalEngine, sqlite_store: Store, unhurried: None) -> AsyncGenerator[WebAdapter]:
    settings = WebSettings(port=0, admin=True)
    sampling = Sampling(max_tokens=4, temperature=0)
    async with web(
        engine, sqlite_store, settings=settings, sampling=sampling, pending_per_user=10_000
    ) as made:
        yield made
        await until_async(lambda: sqlite_store.unfinished("web"), lambda left: not left)


def routes(site: WebAdapter) -> list[tuple[str, str]]:
    """Method and path of everything that is served."""
    assert site._runner is not None
    app = site._runner.app
    assert isinstance(app, aiohttp_web.Application)
    return [
        (route.method, str(route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    ]


def named(call: str) -> list[str]:
    """What the adapter's code asks of requests, as in request.headers.get("Origin")."""
    return sorted(set(re.findall(rf'\.{call}\.get\(\s*"([^"]+)"', _SOURCE)))


def somebody_else(site: WebAdapter) -> Callable[[], Any]:
    body = json.dumps(
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": _SPOKEN, "temperature": 0, "stream": True,
         "stream_options": {"include_usage": True}}
    ).encode()  # fmt: skip

    async def answered() -> None:
        answer = await request(
            site.url, "POST", b"/v1/chat/completions", body=body, until=b"[DONE]", sender="127.0.0.1"
        )
        assert answer.status == 200, answer
        assert b'"completion_tokens": %d' % _SPOKEN in answer.body, answer.body[-500:]

    return answered


async def cookies(site: WebAdapter) -> dict[str, bytes]:
    """Of a browser that has opened the page."""
    answer = await request(site.url, "GET", b"/")
    found = dict(re.findall(rb"Set-Cookie: (\w+)=([^;\r]+)", answer.body))
    assert found
    return {name.decode(): value for name, value in found.items()}


def cookie_header(jar: dict[str, bytes]) -> bytes:
    return b"; ".join(name.encode() + b"=" + value for name, value in jar.items())


async def judged(watch: Watch, asked: Iterable[tuple[object, Callable[[], Any]]]) -> None:
    """Ask, a few at a time; each must be answered, and not with a fault of ours."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def ask(case: object, send: Callable[[], Any]) -> None:
        async with at_once:
            with watch.trying(case):
                try:
                    answer: Answer = await send()
                except TimeoutError:
                    watch.blame("was not answered", case)
                    return
            if (answer.status >= 500 and answer.status not in _FINE) or b"Traceback" in answer.body:
                watch.blame(f"{answer.status} {answer.body[-300:]!r}", case)

    async with asyncio.TaskGroup() as group:
        for case, send in asked:
            group.create_task(ask(case, send))


async def test_every_route_that_takes_a_body_is_tried(site: WebAdapter) -> None:
    served = routes(site)
    assert {path for method, path in served if method == "POST"} == {*BODIES, "/api/logout"}
    assert {method for method, _ in served} == {"GET", "POST"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", BODIES)
async def test_the_worst_bodies_harm_nobody_else(site: WebAdapter, path: str) -> None:
    jar = cookie_header(await cookies(site))
    model, fields = BODIES[path]
    # A stream is another way through the code.
    examples = [example_of(model, **fields)]
    if "stream" in examples[0]:
        examples.append({**examples[0], "stream": False})

    def asked() -> Iterator[tuple[object, Callable[[], Any]]]:
        numbers = itertools.count()
        for example in examples:
            for case in sampled(cases(example), 30):

                def send(case: Case = case) -> Any:
                    body = case.text.replace('"message-1"', f'"message-{next(numbers)}"').encode()
                    return request(
                        site.url, "POST", path.replace("{name}", "mcp").encode(), {"Cookie": jar}, body
                    )

                yield f"{path}: {case}", send

    async with watching(somebody_else(site)) as watch:
        await judged(watch, asked())


@pytest.mark.timeout(3600)
async def test_bytes_that_are_no_body_harm_nobody_else(site: WebAdapter) -> None:
    jar = cookie_header(await cookies(site))
    bomb = gzip.compress(b'{"text":"' + b" " * 100_000_000, 1)
    bodies: list[tuple[dict[str, bytes], bytes]] = [
        ({}, b""), ({}, b"\x00"), ({}, b"\xff\xfe{"), ({}, b"\xed\xa0\x80"), ({}, b"a" * (9 * 2**20)),
        ({"Content-Encoding": b"gzip"}, bomb), ({"Content-Encoding": b"deflate"}, bomb),
        ({"Content-Encoding": b"gzip"}, b"\x1f\x8bbroken"), ({"Content-Encoding": b"br"}, b"x"),
        ({"Content-Type": b"text/plain; charset=utf-99"}, b"{}"), ({"Content-Type": b"application/json; charset=\xff"}, b"{}"),
        ({"Content-Type": b"multipart/form-data"}, b"--x"), ({"Transfer-Encoding": b"chunked"}, b"zz\r\n"),
        ({"Content-Length": b"-1"}, b"{}"), ({"Content-Length": b"9" * 400}, b"{}"),
    ]  # fmt: skip
    asked = [
        (f"{path}: {headers} {body[:20]!r}",
         partial(request, site.url, "POST", path.encode(), {"Cookie": jar, **headers}, body))
        for path in BODIES
        for headers, body in bodies
    ]  # fmt: skip
    async with watching(somebody_else(site)) as watch:
        await judged(watch, some(asked, 40))


def texts() -> Iterable[tuple[str, str]]:
    """The worst, cut to what a request line or a header can hold."""
    return [(name, text[:2_000]) for name, text in TEXTS.items()]


@pytest.mark.timeout(3600)
async def test_the_worst_paths_and_queries_harm_nobody_else(site: WebAdapter) -> None:
    jar = cookie_header(await cookies(site))
    queries = named("query")
    assert queries
    asked: list[tuple[object, Callable[[], Any]]] = []
    for method, path in routes(site):
        body = b"{}" if method == "POST" else b""
        for name, text in texts():
            written = quote(text, safe="", errors="surrogatepass")
            targets = [(f"query {query}", f"{path}?{query}={written}") for query in queries]
            if "{" in path:
                targets = [("path", re.sub(r"\{[^}]*\}", lambda _, to=written: to, path))]
            asked += [
                (f"{method} {path}: {place} = {name}", partial(request, site.url, method, target.encode(), {"Cookie": jar}, body))
                for place, target in targets
            ]  # fmt: skip
    async with watching(somebody_else(site)) as watch:
        await judged(watch, some(asked, 60))


@pytest.mark.timeout(3600)
async def test_the_worst_headers_and_cookies_harm_nobody_else(site: WebAdapter) -> None:
    jar = await cookies(site)
    headers = sorted({*named("headers"), *_HEADERS})
    assert len(headers) > len(_HEADERS)
    asked: list[tuple[object, Callable[[], Any]]] = []
    for method, path in routes(site):
        target = re.sub(r"\{[^}]*\}", "1", path).encode()
        body = b"{}" if method == "POST" else b""
        for name, text in texts():
            # A line break would end the header.
            value = text.encode("utf-8", "surrogatepass").replace(b"\n", b"\x0b").replace(b"\r", b"\x0c")
            sent = {header: {"Cookie": cookie_header(jar), header: value} for header in headers}
            sent |= {f"cookie {cookie}": {"Cookie": cookie_header({**jar, cookie: value})} for cookie in jar}
            asked += [
                (
                    f"{method} {path}: {place} = {name}",
                    partial(request, site.url, method, target, fields, body),
                )
                for place, fields in sent.items()
            ]
    async with watching(somebody_else(site)) as watch:
        await judged(watch, some(asked, 100))
