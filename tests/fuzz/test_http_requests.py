"""Whatever is sent to the web adapter is answered, never with a 500, and never with a traceback."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

import glmbot_web.delivery
from adapters.test_web import web
from fuzz.inputs import changed, fuzz, junk, nasty_text
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings

# Bytes of a request's first line that aiohttp reads.
LONGEST_LINE = 8190
ASK = {"id": "message-1", "conversation": 1, "text": "hello"}
BODIES: list[tuple[str, Any]] = [
    ("/api/messages", ASK),
    ("/api/messages", {**ASK, "text": "/retry", "answers": "message-0-new"}),
    ("/api/messages", {**ASK, "text": "hello again", "edits": "message-0-new"}),
    ("/api/branch", {"conversation": 5, "turn": 1}),
    ("/api/login", {"token": "let me in"}),
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}),
    (
        "/v1/chat/completions",
        {
            "model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 2, "temperature": 0.5,
            "top_p": 0.9, "seed": 3, "stop": ["x"], "n": 2, "user": "u", "logprobs": True, "top_logprobs": 2, "presence_penalty": 0.5,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "and?"},
            ],
        },
    ),
    (
        "/v1/chat/completions",
        {
            "max_tokens": 1,
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": "hi"},
                {"role": "system", "content": "be kind"},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "and?"},
            ],
        },
    ),
    ("/v1/completions", {"prompt": ["hi", "ho"], "max_tokens": 1, "n": 2, "logit_bias": {"5": 1.5}, "seed": 1}),
    ("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 0, "echo": True, "logprobs": 2}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 1, "stream": True, "top_logprobs": 1}),
    (
        "/v1/responses",
        {
            "instructions": "be brief", "max_output_tokens": 1,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
                {"type": "reasoning", "summary": []},
                {"role": "user", "content": "and?"},
            ],
        },
    ),
    ("/v1/embeddings", {"model": "m", "input": "hi"}),
    ("/api/logout", {}),
    ("/", {"prompt": "hi", "history": [["a", "b"]], "max_length": 64, "top_p": 0.7, "temperature": 0.9}),
    ("/api/admin/command", {"text": "/status"}),
]  # fmt: skip
PATHS = [
    "/", "/admin", "/healthz", "/readyz", "/metrics", "/static/app.js", "/static/../config.toml", "/static/%2e%2e/x", "/api/hello", "/api/hello?language=%00",
    "/api/conversations", "/api/conversations?before=nan&id=1", "/api/conversations?before=1e9&id=-1", "/api/conversations/1", "/api/conversations/1/outline", "/api/conversations/9999999999999999", "/api/conversations/99999999999999999999999", "/api/streams/x",
    "/api/streams/%00", "/v1/models", "/v1/models/x", "/api/admin/overview", "/api/admin/events", "/nothing", "//", "/%ff",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"]
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
headers = st.dictionaries(
    st.sampled_from(["Origin", "Host", "Authorization", "Cookie", "Accept-Language", "Last-Event-ID", "Content-Type", "Sec-Fetch-Site", "Range"]),
    header_text | st.sampled_from(["application/json", "null", "http://evil.example", "glmbot=%00", "glmbot_session=1", "glmbot_session=" + "9" * 39, "glmbot_login=x", "Bearer x", "bytes=0-99999999999", "-1", "9" * 30]),
    max_size=3,
)  # fmt: skip
bodies = (
    st.binary(max_size=200) | junk.map(lambda made: json.dumps(made).encode()) | nasty_text.map(str.encode)
)


NUMBERS = itertools.count()


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bytes]:
    if draw(st.booleans()):
        path, template = draw(st.sampled_from(BODIES))
        body = json.dumps(draw(st.just(template) | changed([template]))).encode()
        sent = {"Content-Type": "application/json"} | (draw(headers) if draw(st.booleans()) else {})
        return "POST", path, sent, body
    path = draw(st.sampled_from(PATHS) | nasty_text.map(lambda text: "/" + text))
    return draw(st.just("GET") | st.sampled_from(METHODS)), path, draw(headers), draw(bodies)


def new(body: bytes) -> bytes:
    """With an id of its own, and an edit with words of its own: what came before is not answered again."""
    number = next(NUMBERS)
    body = body.replace(b'"message-1"', f'"message-{number}-new"'.encode())
    return body.replace(b'"hello again"', f'"hello again {number}"'.encode())


@pytest.fixture
async def site(
    engine: LocalEngine, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[WebAdapter]:
    # No page comes back from before this start, and none is waited for.
    monkeypatch.setattr(glmbot_web.delivery, "_COMES_BACK_S", 0.0)
    sampling = Sampling(max_tokens=2, temperature=0)
    settings = WebSettings(port=0, admin=True)
    async with web(
        engine, sqlite_store, settings=settings, sampling=sampling, pending_per_user=10_000
    ) as adapter:
        yield adapter


@pytest.fixture
async def session(site: WebAdapter) -> AsyncGenerator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(sock_read=60)) as made:
        async with made.get(site.url):
            pass
        yield made


@pytest.mark.timeout(3600)
@fuzz
@given(requests())
async def test_any_request_is_answered_without_a_fault(
    site: WebAdapter,
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    sent_request: tuple[str, str, dict[str, str], bytes],
) -> None:
    caplog.set_level(logging.WARNING)
    caplog.clear()
    method, path, sent, body = sent_request
    try:
        # The client refuses to write control characters as they are.
        url = URL(site.url + path, encoded="%" in path and path.isprintable())
    except ValueError:
        return
    try:
        await exchange(session, site.url, method, url, sent, new(body))
    except aiohttp.ClientResponseError as error:
        # Of a first line that is too long the server does not know that it asks for the head alone.
        if (method, error.status) != ("HEAD", 400) or len(str(url)) <= LONGEST_LINE:
            raise
    assert not [record for record in caplog.records if record.exc_info or record.exc_text]
    async with session.get(f"{site.url}/healthz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("number", range(len(BODIES)))
async def test_what_is_changed_is_taken_as_it_stands(
    site: WebAdapter, session: aiohttp.ClientSession, number: int
) -> None:
    """Else the changes would be refused for something else, and never looked at."""
    path, body = BODIES[number]
    sent = {"Content-Type": "application/json"}
    status, text = await exchange(
        session, site.url, "POST", URL(site.url + path), sent, new(json.dumps(body).encode())
    )
    assert (status, path) in {
        (200, path),
        (202, "/api/messages"),
        (401, "/api/login"),
        (409, "/api/branch"),
        (400, "/v1/embeddings"),
    }, text


async def exchange(
    session: aiohttp.ClientSession, base: str, method: str, url: URL, sent: dict[str, str], body: bytes
) -> tuple[int, str]:
    """Status and text. A question that is taken is answered, too."""
    async with session.request(method, url, headers=sent, data=body, allow_redirects=False) as answer:
        assert answer.status < 500 or answer.status in (501, 503), await answer.text()
        waits = answer.content_type == "text/event-stream" and url.path.startswith("/api/")
        # A stream of news has no end.
        text = (await answer.content.readany() if waits else await answer.read()).decode(errors="replace")
    assert "Traceback" not in text
    if answer.status == 202 and "Cookie" not in sent:
        async with session.get(f"{base}/api/streams/{json.loads(text)['stream']}") as stream:
            events = (await stream.text()).splitlines()
        last = [json.loads(line[6:]) for line in events if line.startswith("data: {") and line != "data: {}"][
            -1
        ]
        assert last["state"] in ("final", "stopped", "failed"), last
    return answer.status, text
