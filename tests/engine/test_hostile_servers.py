"""Model servers that flood, stall, lie and misspell: an answer ends in bounded time and size, with clear words, and
the loop belongs to others meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import logging
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.base import Conversation, FinishReason, Progress, Sampling
from glmbot.engine.openai_client import retry_after
from glmbot.engine.openai_stream import StreamBroken, read_event, read_models, refusal
from glmbot.engine.remote import RemoteChat, RemoteEngineSettings, start_remote
from glmbot.errors import EngineError, ServerUnavailable
from robustness.watch import RunQueue

KEY = "sk-0123456789-of-the-bot"
_Write = Callable[[bytes], Any]
_Talk = Callable[[asyncio.StreamWriter], Any]


def _event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def _said(text: str, finish: str | None = None) -> bytes:
    return _event(choices=[{"delta": {"content": text}, "finish_reason": finish}])


DONE = _said("", "stop") + b"data: [DONE]\n\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
LISTED = b'{"data": [{"id": "m", "max_model_len": 4096}]}'


def _head(status: int = 200, kind: str = "application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def say(*parts: bytes) -> _Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def endless(head: bytes, part: bytes, pause_s: float = 0.0) -> _Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    return talk


def drip(head: bytes, text: bytes, pause_s: float) -> _Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for byte in text:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause_s)

    return talk


@functools.cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"a" * 2**20) for _ in range(64)) + packer.flush()


@asynccontextmanager
async def hostile(
    answers: _Talk, lists: _Talk | None = None, **changes: Any
) -> AsyncGenerator[tuple[RemoteChat, list[bytes]]]:
    """An engine with one server, which says what `answers` says to everything but the list of its models."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head)
            is_list = b"/models" in head.split(b"\r\n")[0]
            await ((lists or say(_head() + LISTED)) if is_list else answers)(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits: dict[str, Any] = {"connect_s": 1.0, "first_token_s": 0.6, "next_token_s": 0.4, "patience_s": 0.0}
    settings = RemoteEngineSettings([f"http://127.0.0.1:{port}/v1"], api_key=KEY, **(limits | changes))
    engine = await start_remote(settings)
    assert isinstance(engine, RemoteChat)
    try:
        yield engine, asked
    finally:
        await engine.close()
        server.close()


async def read(engine: RemoteChat, tokens: int = 32) -> Progress:
    last = Progress()
    prompt = engine.prepare(Conversation.of_words("hi"), 1000)
    async for last in engine.generate(prompt, Sampling(max_tokens=tokens), user="ann"):
        pass
    return last


@asynccontextmanager
async def loop_stays_free(longest_s: float = 0.5) -> AsyncGenerator[None]:
    """What others on this machine took from the loop does not count."""
    loop, queue = asyncio.get_running_loop(), RunQueue()
    slowest = 0.0

    async def beat() -> None:
        nonlocal slowest
        while True:
            before, waited = loop.time(), queue.waited_s()
            await asyncio.sleep(0.01)
            slowest = max(slowest, loop.time() - before - (queue.waited_s() - waited))

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        queue.close()
    assert slowest < longest_s


FAILS = {
    "a line without end": (endless(STREAM, b"data: " + b"a" * 65536), "too long"),
    "comments without end": (endless(STREAM, b": ping\n\n", 0.05), "too long"),
    "a flood of comments": (endless(STREAM, b": ping\n" * 5000), "far more than it was asked for|too long"),
    "a flood of empty events": (endless(STREAM, _said("") * 500), "far more than it was asked for|too long"),
    "a byte at a time": (drip(STREAM, _said("hi"), 0.1), "too long"),
    "headers a byte at a time": (drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 99, 0.1), "too long"),
    "headers without end": (endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000), "400"),
    "a huge header": (say(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 10**6 + b"\r\n\r\n"), "400"),
    "no HTTP": (say(b"\x00\xff" * 1000), "400"),
    "nothing": (say(b""), "disconnected"),
    "a page": (say(_head(200, "text/html") + b"<html>log in</html>"), "text/html and no stream of events"),
    "JSON": (
        say(_head() + b'{"error": {"message": "no such\\nmodel"}}'),
        "no stream of events: no such model",
    ),
    "compressed": (say(_head(200, "text/event-stream", "Content-Encoding: gzip") + _bomb()), "compressed"),
    "a compressed refusal": (
        say(_head(500, "text/html", "Content-Encoding: gzip") + _bomb()),
        "answered 500",
    ),
    "a refusal without end": (endless(_head(503), b"a" * 65536), "answered 503"),
    "a redirection": (say(_head(307, "text/html", "Location: http://127.0.0.1:9/")), "send us elsewhere"),
    "deep JSON": (say(STREAM + b"data: " + b"[" * 50_000 + b"\n\n"), "no event of this interface"),
    "a huge number": (say(STREAM + b'data: {"choices": [' + b"9" * 10_000 + b"]}\n\n"), "no event"),
    "an error inside": (
        say(STREAM + _event(error={"message": "out of\x1b[2J memory"})),
        r"out of\[2J memory",
    ),
    "another text": (say(STREAM + _event(choices=[{"delta": {"content": [1]}}])), "no event"),
    "an end without an end": (say(STREAM + _said("half")), "broke off"),
}


@pytest.mark.parametrize("name", FAILS)
async def test_a_server_at_fault_is_left_in_time_with_clear_words(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    talk, words = FAILS[name]
    async with hostile(talk) as (engine, asked), loop_stays_free():
        async with asyncio.timeout(60):
            with pytest.raises(ServerUnavailable, match=words) as raised:
                await read(engine)
        assert engine.stats().running == 0
    assert len(str(raised.value)) < 1000
    assert str(raised.value).isprintable()
    assert KEY not in str(raised.value) + caplog.text
    assert not [record for record in caplog.records if record.exc_info], (
        "a server's fault is no fault of ours"
    )
    assert asked


ENDS = {
    "a flood of words": (endless(STREAM, _said("word " * 20_000)), FinishReason.LENGTH),
    "a flood of small words": (endless(STREAM, _said("word ") * 500), FinishReason.LENGTH),
    "usage that is no number": (
        say(
            STREAM
            + _said("fine")
            + b'data: {"usage": {"prompt_tokens": NaN, "completion_tokens": NaN}}\n'
            + DONE
        ),
        FinishReason.STOP,
    ),
    "usage in words": (
        say(
            STREAM + _said("fine") + _event(usage={"prompt_tokens": "many", "completion_tokens": [1]}) + DONE
        ),
        FinishReason.STOP,
    ),
    "negative and huge usage": (
        say(
            STREAM
            + _said("fine")
            + _event(
                usage={
                    "prompt_tokens": -(10**30),
                    "completion_tokens": 10**30,
                    "prompt_tokens_details": {"cached_tokens": 10**6},
                }
            )
            + DONE
        ),
        FinishReason.STOP,
    ),
    "half a surrogate pair": (say(STREAM + _said("fi\ud800ne\udfff\x00") + DONE), FinishReason.STOP),
    "no UTF-8": (say(STREAM + b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n' + DONE), None),
}


# For servers that never stall, on a machine that may.
PATIENT: dict[str, Any] = {"connect_s": 30.0, "first_token_s": 30.0, "next_token_s": 30.0}


@pytest.mark.parametrize("name", ENDS)
async def test_what_a_server_says_is_taken_as_far_as_it_makes_sense(name: str) -> None:
    talk, finish = ENDS[name]
    async with hostile(talk, **PATIENT) as (engine, _), loop_stays_free(), asyncio.timeout(90):
        try:
            last = await read(engine)
        except ServerUnavailable:
            assert finish is None
            return
        stats = engine.stats()
    assert last.finish is (finish or FinishReason.STOP)
    assert len(last.text) <= 1024 + 32 * 32
    last.text.encode()
    assert "\x00" not in last.text
    assert 0 <= last.completion_tokens <= 32
    assert 0 <= stats.prompt_tokens_read < 10**8
    assert 0 <= stats.prompt_tokens_reused < 10**8


LISTS = {
    "without end": endless(_head(), b" " * 65536),
    "of text": say(_head() + b'"data"'),
    "in a list": say(_head() + b"[]"),
    "of nonsense": say(
        _head() + b'{"data": [null, 5, {"id": 5}, {"id": ""}, {"id": "\\u0000"}, {"id": [1]}]}'
    ),
    "deep": say(_head() + b"[" * 100_000),
    "compressed": say(_head(200, "application/json", "Content-Encoding: gzip") + gzip.compress(LISTED)),
    "redirected": say(_head(302, "text/html", "Location: http://127.0.0.1:9/")),
    "a byte at a time": drip(_head(), LISTED * 9, 0.1),
    "no text": say(_head() + b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_of_models_that_is_none_is_said(name: str) -> None:
    async with asyncio.timeout(60), loop_stays_free():
        async with hostile(say(STREAM + _said("fine") + DONE), LISTS[name]) as (engine, asked):
            with pytest.raises(ServerUnavailable, match=r"does not list its models|Timeout|too long"):
                await read(engine)
            assert all(b"Accept-Encoding: identity" in head for head in asked)
        fine = say(STREAM + _said("fine") + DONE)
        async with hostile(fine, LISTS[name], model="m", first_token_s=30.0, next_token_s=30.0) as (
            engine,
            _,
        ):
            assert (await read(engine)).text == "fine"


@pytest.mark.parametrize(
    "entry", [{"meta": []}, {"meta": "x"}, {"max_model_len": -1}, {"max_model_len": "9" * 99}]
)
async def test_facts_of_a_model_that_are_none_are_left_out(
    entry: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    listed = json.dumps({"data": [{"id": "m", **entry}]}).encode()
    async with hostile(say(STREAM + _said("fine") + DONE), say(_head() + listed), **PATIENT) as (engine, _):
        assert (await read(engine)).text == "fine"
    assert caplog.text == ""


@pytest.mark.parametrize(
    "wish", ["99999999999", "9" * 5000, "1e9", "-5", "nan", "Fri, 31 Dec 9999 23:59:59 GMT", "\x7f"]
)
async def test_a_wish_for_years_is_not_granted(wish: str) -> None:
    head = _head(429, "application/json", f"Retry-After: {wish}")
    async with hostile(say(head + b"{}")) as (engine, _):
        with pytest.raises(EngineError):
            await read(engine)
        assert engine._servers.pause_s() <= 300


@given(st.text(max_size=80))
def test_any_wish_is_a_number_of_seconds_within_five_minutes_or_none(header: str) -> None:
    wish = retry_after(header, 1.8e9)
    assert wish is None or 0 <= wish <= 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (" 7 ", 7),
        ("Fri, 15 Jan 2027 08:01:40 GMT", 100),
        ("soon", None),
        ("", None),
        ("٣", None),
    ],
)
def test_wishes_of_the_standard_are_understood(header: str, seconds: float | None) -> None:
    assert retry_after(header, 1.8e9) == seconds


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["data", "id", "meta", "n_ctx", "max_model_len", "choices", "delta", "content", "text", "error",
                         "usage", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "finish_reason"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(StreamBroken):
        delta = read_event(b"data: " + json.dumps(value).encode())
        if delta is not None:
            delta.text.encode()
            assert all(
                count is None or (type(count) is int and 0 <= count <= 10**7)
                for count in (delta.prompt_tokens, delta.cached_tokens, delta.completion_tokens)
            )
    with contextlib.suppress(ValueError):
        assert all(isinstance(name, str) for name in read_models(value))
    assert refusal(json.dumps(value)).isprintable()
