"""Whatever a client sends or does not read: every field, body, connection and stream has its bound."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, cast

import aiohttp
import pytest
from pydantic import SecretStr

import glmbot_web.adapter
import glmbot_web.events
import glmbot_web.render
from adapters.web_site import ScriptedDialogue, browser, scripted_site
from conftest import until
from glmbot.completions import Completion
from glmbot.errors import EngineError, EngineStopped, PromptInvalid, PromptTooLong
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState
from glmbot.ports import Dialogue
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.delivery import Streams
from glmbot_web.events import with_pings
from glmbot_web.normalize import ChatCompletionRequest, PageMessage
from glmbot_web.openai_errors import failure
from glmbot_web.render import to_html
from virtual_time import run_in_virtual_time

HUGE, DEEP = "9" * 5000, "[" * 100_000 + "]" * 100_000
TURN = '{"role": "user", "content": "hi"}'
# (path, a field, its worst values as JSON)
FIELDS: list[tuple[str, str, list[str]]] = [
    ("/v1/chat/completions", "messages", [f"[{','.join([TURN] * 2049)}]", "[]", "{}", "null", "5", '"x"']),
    ("/v1/chat/completions", "top_k", ["1" + "0" * 30, "-1", "NaN", "1.5", '"x"', "[]"]),
    ("/v1/chat/completions", "seed", ["1" + "0" * 30, str(2**63), str(-(2**63) - 1), "Infinity"]),
    ("/v1/chat/completions", "max_tokens", ["1" + "0" * 30, "0", "-1", "NaN"]),
    ("/v1/chat/completions", "max_completion_tokens", ["1" + "0" * 30, "0"]),
    ("/v1/chat/completions", "temperature", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "2.1"]),
    ("/v1/chat/completions", "top_p", ["NaN", "0", "1.1"]),
    ("/v1/chat/completions", "repetition_penalty", ["NaN", "0", "11", "1e999"]),
    ("/v1/chat/completions", "stop", [json.dumps("x" * 257), json.dumps(["x"] * 17), json.dumps(["x" * 200_000]), '""', '[""]', "5"]),
    ("/v1/chat/completions", "model", [json.dumps("x" * 513), "5"]),
    ("/v1/chat/completions", "user", [json.dumps("x" * 513)]),
    ("/v1/chat/completions", "n", ["9", "true", "1" + "0" * 30]),
    ("/v1/chat/completions", "logit_bias", [json.dumps({str(each): 1 for each in range(1025)}), '{"x": 1}', '{"5": 1e999}']),
    ("/v1/completions", "prompt", ["null", "[]", "[[]]", "[-1]", "[1.5]", '["a", 5]', json.dumps(["a"] * 65), "[" + "1" * 30 + "]"]),
    ("/v1/completions", "max_tokens", ["-1", "0", "1e999"]),
    ("/v1/completions", "logprobs", ["21", "-1", "true"]),
    ("/v1/completions", "suffix", ['"x"']),
    ("/v1/completions", "best_of", ["2"]),
    ("/v1/chat/completions", "tools", ['[{"type": "function"}]']),
    ("/", "history", [json.dumps([["a", "b"]] * 1025), '[["a"]]', '[["a", "b", "c"]]', "5"]),
    ("/", "max_length", ["1" + "0" * 30, "-1", "NaN"]),
    ("/", "temperature", ["NaN", "5.1"]),
    ("/", "prompt", ["null", "5", "[]"]),
    ("/api/messages", "id", ['"short"', json.dumps("x" * 65), '"a b c d e f"', json.dumps("é" * 10), "5"]),
    ("/api/messages", "conversation", ["0", "-1", str(2**53), "1" + "0" * 30, "NaN", "1.5"]),
    ("/api/messages", "edits", [json.dumps("x" * 65), '"a\\u0000"']),
    ("/api/messages", "answers", [json.dumps("x" * 65), '"<a>"']),
    ("/api/messages", "text", ["null", "5"]),
    ("/api/admin/command", "text", ['"no command"', json.dumps("/" + "x" * 10_001), "null"]),
]  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/": {"prompt": "hi"},
    "/api/messages": {"id": "question-1", "conversation": 1, "text": "hi"},
    "/api/admin/command": {"text": "/status"},
}
BROKEN = [
    f'{{"x": {DEEP}, ', f'{{"x": {HUGE}, ', '{"x": "\\ud800", ', '{"x": \x00, ', '{"x": NaN, "y": ', '{"x": 1e', "\xef\xbb\xbf[", "{,", "}" * 1000,
]  # fmt: skip


async def post(session: aiohttp.ClientSession, url: str, body: bytes, **headers: str) -> tuple[int, str]:
    sent = {"Content-Type": "application/json", **headers}
    async with session.post(url, data=body, headers=sent) as answer:
        return answer.status, await answer.text()


async def test_every_field_has_its_bound_and_the_answer_names_it(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue, admin=True) as site, browser() as session:
        await session.get(site.url)
        for path, field, worst in FIELDS:
            for value in worst:
                rest = json.dumps({name: given for name, given in GOOD[path].items() if name != field})
                body = f'{{"{field}": {value}{", " if rest != "{}" else ""}{rest[1:]}'
                status, text = await post(session, site.url + path, body.encode())
                assert status == 400, (path, field, value[:50], text)
                assert field in text, (path, field, value[:50], text)
                assert len(text) < 1000
        for path in GOOD:
            for broken in BROKEN:
                status, text = await post(session, site.url + path, broken.encode())
                assert (status, len(text) < 1000) == (400, True), (path, broken[:30], text[:300])
            assert (await post(session, site.url + path, json.dumps(GOOD[path]).encode()))[0] < 300
    assert not [record for record in caplog.records if record.exc_info]


def test_a_body_of_a_million_values_is_refused_before_they_are_made() -> None:
    for values in ('["",""],' * 900_000, "{}," * 2_000_000, "1," * 3_000_000, '"' + '\\"' * 3_000_000):
        with pytest.raises(BadRequest):
            parse(ChatCompletionRequest, b'{"messages": [' + values.encode() + b"0]}")
    long = {"id": "question-1", "conversation": 1, "text": '{"a": [1, 2, 3]},' * 200_000}
    assert parse(PageMessage, json.dumps(long).encode()).text == long["text"]


async def test_what_is_packed_or_too_long_is_refused_unread() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()
    async with scripted_site(token=SecretStr("correct-horse-battery")) as site, browser() as session:
        for path, more in (
            ("/api/login", {}),
            ("/api/messages", {"Authorization": "Bearer correct-horse-battery"}),
        ):
            for encoding in ("gzip", "deflate", "br", "identity, gzip", "x"):
                status, _ = await post(
                    session, site.url + path, bomb, **{"Content-Encoding": encoding}, **more
                )
                assert status == 415
            status, _ = await post(session, site.url + path, b" " * (9 * 2**20), **more)
            assert status == 413
        packed = gzip.compress(b'{"token": "correct-horse-battery"}')
        assert (await post(session, f"{site.url}/api/login", packed, **{"Content-Encoding": "gzip"}))[
            0
        ] == 415
        assert (await post(session, f"{site.url}/api/messages", b"x" * 2**20))[0] == 401


# ---- connections -----------------------------------------------------------------------------------------------


async def test_idle_connections_make_room_and_a_person_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_site(max_connections=8) as site:
        host, port = site.url.removeprefix("http://").split(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(60)]
        async with browser() as session, session.get(f"{site.url}/healthz") as answer:
            assert answer.status == 200
        server = site._runner.server  # pyright: ignore
        await until(lambda: len(server.connections) <= 8 + 2)  # pyright: ignore
        for _, writer in idle:
            writer.close()


async def test_a_head_that_never_ends_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glmbot_web.adapter, "_IDLE_S", 0.2)
    async with scripted_site() as site:
        host, port = site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: a")
        assert await asyncio.wait_for(reader.read(), 90) == b""
        writer.close()


# ---- streams and listeners ---------------------------------------------------------------------------------------


class Held:
    """A script whose answers wait until they may end."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, message: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("so far", ReplyState.STREAMING)
        await self.open.wait()
        yield Reply("so far and the rest", ReplyState.FINAL, finish_reason="stop")


async def test_one_person_has_so_many_open_questions_and_kept_answers_and_no_more() -> None:
    held = Held()
    async with scripted_site(ScriptedDialogue(held)) as site, browser() as session:
        await session.get(site.url)
        statuses: list[int] = []
        for number in range(80):
            body = json.dumps({"id": f"question-{number}", "conversation": 1, "text": "hi"}).encode()
            statuses.append((await post(session, f"{site.url}/api/messages", body))[0])
        assert statuses == [202] * 64 + [429] * 16
        (person,) = site._streams._of
        held.open.set()
        await until(lambda: site._streams.open_of(person) == 0)
        body = json.dumps({"id": "one-more-question", "conversation": 1, "text": "hi"}).encode()
        assert (await post(session, f"{site.url}/api/messages", body))[0] == 202
        for number in range(70):
            body = json.dumps({"id": f"and-again-{number}", "conversation": 1, "text": "hi"}).encode()
            assert (await post(session, f"{site.url}/api/messages", body))[0] == 202
        assert len(site._streams._of[person]) <= 64 + 32


async def test_of_a_persons_many_listeners_the_newest_count() -> None:
    held = Held()
    async with scripted_site(ScriptedDialogue(held)) as site, browser() as session:
        await session.get(site.url)
        body = json.dumps({"id": "question-1", "conversation": 1, "text": "hi"}).encode()
        _, text = await post(session, f"{site.url}/api/messages", body)
        url = f"{site.url}/api/streams/{json.loads(text)['stream']}"
        listeners = [await session.get(url) for _ in range(40)]
        ended = 0
        for listener in listeners[:24]:
            with suppress(aiohttp.ClientError):
                assert b"the rest" not in await listener.read()
            ended += 1
        assert ended == 24
        held.open.set()
        assert b"the rest" in await listeners[-1].read()


async def test_who_waits_is_told_so_in_both_kinds_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glmbot_web.events, "PING_S", 0.05)
    held = Held()

    async def waits(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        await asyncio.sleep(0.2)
        async for reply in held(message):
            yield reply

    async with scripted_site(ScriptedDialogue(waits)) as site, browser() as session:
        await session.get(site.url)
        wish = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with session.post(f"{site.url}/v1/chat/completions", json=wish) as answer:
            seen = b""
            while b"so far" not in seen or seen.count(b": ping\n\n") < 4:
                seen += await answer.content.readany()
            assert seen.index(b": ping") < seen.index(b"so far")
            held.open.set()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")


async def test_with_pings_ends_and_closes_what_it_reads() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
            raise ValueError("in the end")
        finally:
            closed.append("closed")

    seen: list[int | None] = []

    async def read() -> None:
        async for number in with_pings(numbers(), 10):
            seen.append(number)

    with pytest.raises(ValueError, match="in the end"):
        await read()
    assert seen[-1] == 2
    left = with_pings(numbers(), 10)
    await anext(left)
    await left.aclose()
    assert closed == ["closed", "closed"]


async def test_a_long_growing_answer_is_rendered_now_and_then_and_each_block_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[str] = []
    read = glmbot_web.render._read

    def count(text: str) -> list[tuple[int, str]]:
        rendered.append(text)
        return read(text)

    monkeypatch.setattr(glmbot_web.render, "_read", count)
    paragraphs = [f"Paragraph **{number}** of some words." for number in range(500)]

    async def grows(_: Message | Completion) -> AsyncGenerator[Reply, None]:
        for length in range(len(paragraphs)):
            await asyncio.sleep(0)
            yield Reply("\n\n".join(paragraphs[:length]), ReplyState.STREAMING)
        yield Reply("\n\n".join(paragraphs), ReplyState.FINAL)

    async with scripted_site(ScriptedDialogue(grows)) as site, browser() as session:
        await session.get(site.url)
        body = json.dumps({"id": "question-1", "conversation": 1, "text": "hi"}).encode()
        _, text = await post(session, f"{site.url}/api/messages", body)
        url = f"{site.url}/api/streams/{json.loads(text)['stream']}"
        answers = await asyncio.gather(*(session.get(url) for _ in range(5)))
        whole = [await answer.read() for answer in answers]
    assert all(b'"final"' in each for each in whole)
    assert len(rendered) < 100
    said = len("\n\n".join(paragraphs))
    assert sum(map(len, rendered)) < 3 * said
    # The text twice, and its HTML once.
    assert all(len(each) < 5 * said for each in whole)
    blocks, shown = [], ""
    for line in whole[0].decode().splitlines():
        event = json.loads(line.removeprefix("data: ")) if line.startswith('data: {"') else None
        if event is not None:
            blocks[event["from"] :] = event["blocks"]
            shown = shown[: event["at"]] + event["text"]
    assert ("".join(blocks), shown) == (to_html("\n\n".join(paragraphs)), "\n\n".join(paragraphs))


async def test_static_files_are_read_once_and_not_sent_again_unchanged() -> None:
    async with scripted_site() as site, browser() as session:
        async with session.get(f"{site.url}/static/app.js") as first:
            etag = first.headers["ETag"]
        async with session.get(f"{site.url}/static/app.js", headers={"If-None-Match": etag}) as second:
            assert (second.status, await second.read()) == (304, b"")


class Panic(BaseException):
    """What a library in Rust raises is no Exception."""


async def test_a_page_waits_for_no_answer_that_ended_in_a_panic(caplog: pytest.LogCaptureFixture) -> None:
    async def panics(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("so far", ReplyState.STREAMING)
        raise Panic

    async with scripted_site(ScriptedDialogue(panics)) as site, browser() as session:
        await session.get(site.url)
        ask = {"id": "question-1", "conversation": 5, "text": "hello"}
        stream = (await (await session.post(f"{site.url}/api/messages", json=ask)).json())["stream"]
        async with asyncio.timeout(90), session.get(f"{site.url}/api/streams/{stream}") as events:
            *_, last, end, _ = (await events.text()).split("\n\n")
    assert end.startswith("event: end")
    told = json.loads(last.partition("data: ")[2])
    assert (told["state"], told["text"], told["notice"]) == ("failed", "so far", "answer.failed")
    assert "answering" in caplog.text


class SlowlyKnown(ScriptedDialogue):
    """After a restart the store has the question, and it is given out while the page asks again."""

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        await super().accept(message, here=here)
        await until(lambda: bool(self.answered))
        return False


class TriedTwice(ScriptedDialogue):
    """What fails is assigned again, as long as it is tried."""

    tries: int = 2

    async def again(self, message: Message, reason: str = "") -> bool:
        if len(self.answered) >= self.tries:
            return True
        await self._assigned.put(message)
        return False


@pytest.mark.parametrize(("tries", "end"), [(2, "final"), (1, "failed")])
async def test_who_asks_is_told_of_a_failure_when_nothing_more_is_tried(tries: int, end: str) -> None:
    async def fails_once(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("so", ReplyState.STREAMING)
        if len(dialogue.answered) == 1:
            raise ValueError("a bug")
        yield Reply("so far", ReplyState.FINAL)

    dialogue = TriedTwice(fails_once)
    dialogue.tries = tries
    async with scripted_site(dialogue) as site, browser() as session:
        await session.get(site.url)
        ask = {"id": "question-1", "conversation": 5, "text": "hello"}
        stream = (await (await session.post(f"{site.url}/api/messages", json=ask)).json())["stream"]
        async with asyncio.timeout(90), session.get(f"{site.url}/api/streams/{stream}") as events:
            shown = [
                json.loads(line.removeprefix("data: "))["state"]
                for line in (await events.text()).splitlines()
                if line.startswith('data: {"state"')
            ]
    assert shown[-1] == end
    assert shown.count("failed") == (end == "failed")
    assert len(dialogue.answered) == tries


def test_nobody_waits_for_ever_for_another_try_that_is_made_elsewhere() -> None:
    async def main() -> None:
        asked = Message("1", ConversationKey("web", "5", "7"), UserKey("web", "7"), "hello")

        async def fails(message: Message | Completion) -> AsyncGenerator[Reply, None]:
            raise ValueError("a bug")
            yield

        class Elsewhere(ScriptedDialogue):
            async def again(self, message: Message, reason: str = "") -> bool:
                return False

        streams = Streams(cast(Dialogue, Elsewhere(fails)))
        stream, _ = streams.expect(asked)
        streams.begin(asked)
        async with asyncio.timeout(600):
            assert (await stream.ended()).state is ReplyState.FAILED

    run_in_virtual_time(main())


def test_an_early_failure_does_not_end_the_wait_for_a_later_try() -> None:
    async def main() -> None:
        asked = Message("1", ConversationKey("web", "5", "7"), UserKey("web", "7"), "hello")

        async def fails_late(message: Message | Completion) -> AsyncGenerator[Reply, None]:
            if len(dialogue.answered) == 1:
                raise ValueError("at once")
            if len(dialogue.answered) == 2:
                await asyncio.sleep(88)
                raise ValueError("late")
            yield Reply("so far", ReplyState.FINAL)

        class Patient(ScriptedDialogue):
            async def again(self, message: Message, reason: str = "") -> bool:
                asyncio.get_running_loop().call_later(
                    1 if len(self.answered) == 1 else 4, streams.begin, message
                )
                return False

        dialogue = Patient(fails_late)
        streams = Streams(cast(Dialogue, dialogue))
        stream, _ = streams.expect(asked)
        streams.begin(asked)
        async with asyncio.timeout(600):
            assert (await stream.ended()).state is ReplyState.FINAL

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PromptInvalid("the model's tokenizer fails on this text"), 400),
        (PromptTooLong(9, 8), 400),
        (EngineStopped("stopping"), 503),
        (EngineError("the model failed"), 500),
        (KeyError("a bug"), None),
    ],
)
def test_what_is_wrong_with_a_request_is_no_fault_of_the_server(error: Exception, status: int | None) -> None:
    found = failure(error)
    assert (None if found is None else found.status) == status


async def test_a_question_that_is_sent_again_after_a_restart_keeps_its_running_answer() -> None:
    goes_on = asyncio.Event()

    async def slowly(message: Message | Completion) -> AsyncGenerator[Reply, None]:
        yield Reply("so", ReplyState.STREAMING)
        await goes_on.wait()
        yield Reply("so far", ReplyState.FINAL)

    async with scripted_site(SlowlyKnown(slowly)) as site, browser() as session:
        await session.get(site.url)
        ask = {"id": "question-1", "conversation": 5, "text": "hello"}
        stream = (await (await session.post(f"{site.url}/api/messages", json=ask)).json())["stream"]
        goes_on.set()
        async with asyncio.timeout(90), session.get(f"{site.url}/api/streams/{stream}") as events:
            assert (events.status, '"so far"' in await events.text()) == (200, True)
