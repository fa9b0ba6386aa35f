"""The web interfaces over real HTTP, with the real `openai` client and a raw socket where it matters."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from pydantic import SecretStr

import glmbot_web.adapter
import glmbot_web.events
from adapters.waiting import running, until_async
from conftest import make_dialogue, until
from dialogue.moderators import moderated
from glmbot.dialogue.access import Access
from glmbot.engine.base import Engine, Precision, Sampling, TokenEngine
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import AdapterError, StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_web.guard import person_of
from glmbot_web.normalize import PLATFORM
from glmbot_web.render import to_html
from held import held


@asynccontextmanager
async def web(
    engine: Engine | TokenEngine, store: Store, *, settings: WebSettings | None = None, **changes: Any
) -> AsyncGenerator[WebAdapter]:
    dialogue = make_dialogue(engine, store, access=Access(), **changes)
    adapter = WebAdapter(settings or WebSettings(port=0), dialogue)
    async with running(adapter):
        yield adapter


@pytest.fixture
async def site(engine: LocalEngine, sqlite_store: Store) -> AsyncGenerator[WebAdapter]:
    async with web(engine, sqlite_store) as adapter:
        yield adapter


@asynccontextmanager
async def browser() -> AsyncGenerator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield session


async def ask_page(
    session: aiohttp.ClientSession, url: str, text: str, *, id: str = "", conversation: int = 1
) -> dict[str, Any]:
    """Ask like the page does; the last event."""
    body = {
        "id": id or f"test-{asyncio.get_running_loop().time()}".replace(".", "-"),
        "conversation": conversation,
        "text": text,
    }
    async with session.post(f"{url}/api/messages", json=body) as response:
        assert response.status == 202, await response.text()
        stream = (await response.json())["stream"]
    events = [event async for event in read_events(session, f"{url}/api/streams/{stream}")]
    return events[-1]


async def read_events(session: aiohttp.ClientSession, url: str) -> AsyncGenerator[dict[str, Any]]:
    async with session.get(url) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: ") and line.strip() != b"data: {}":
                yield json.loads(line[6:])


async def test_the_page_asks_streams_and_remembers(site: WebAdapter, sqlite_store: Store) -> None:
    async with browser() as session:
        async with session.get(site.url) as page:
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert "glmbot" in await page.text()
        first = await ask_page(session, site.url, "hello")
        assert first["state"] == "final"
        assert first["text"]
        await ask_page(session, site.url, "and?")
        report = await ask_page(session, site.url, "/context")
        assert "Turns in it: 2" in report["notice"]
    async with browser() as other:
        await other.get(site.url)
        assert "Turns in it: 0" in (await ask_page(other, site.url, "/context"))["notice"]


async def test_an_edit_to_the_same_words_is_not_promised_another_answer(
    site: WebAdapter, engine: LocalEngine
) -> None:
    async with browser() as session:
        await session.get(site.url)
        await ask_page(session, site.url, "hello", id="the-first")
        edit = {"id": "the-second", "conversation": 1, "text": "hello", "edits": "the-first"}
        async with session.post(f"{site.url}/api/messages", json=edit) as response:
            assert response.status == 200
            assert (await response.json())["stream"].endswith("the-second")
        edit = {**edit, "id": "the-third", "text": "hello again"}
        async with session.post(f"{site.url}/api/messages", json=edit) as response:
            assert response.status == 202
    await until(lambda: engine.stats().requests_finished == 2)


async def test_a_page_that_lost_its_connection_finds_the_answer_again(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    async with (
        web(engine, sqlite_store, sampling=Sampling(max_tokens=400, temperature=0)) as site,
        browser() as session,
    ):
        await session.get(site.url)
        body = {"id": "resume-me", "conversation": 1, "text": "go on"}
        stream = (await (await session.post(f"{site.url}/api/messages", json=body)).json())["stream"]
        async for event in read_events(session, f"{site.url}/api/streams/{stream}"):
            if event["text"]:
                break
        events = [event async for event in read_events(session, f"{site.url}/api/streams/{stream}")]
        assert events[-1]["state"] == "final"
        again = await session.post(f"{site.url}/api/messages", json=body)
        assert (await again.json())["stream"] == stream
    assert engine.stats().requests_finished == 1


async def test_who_has_seen_the_end_is_sent_nothing_again(site: WebAdapter) -> None:
    async with browser() as session:
        await session.get(site.url)
        body = {"id": "seen-to-the-end", "conversation": 1, "text": "hello"}
        stream = (await (await session.post(f"{site.url}/api/messages", json=body)).json())["stream"]
        url = f"{site.url}/api/streams/{stream}"
        whole = await (await session.get(url)).text()
        last = [line for line in whole.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")
        again = await (await session.get(url, headers={"Last-Event-ID": last})).text()
        assert again == "event: end\ndata: {}\n\n"
        nonce, _, version = last.partition("-")
        # One of a process before this one, which had come as far, is none of this stream.
        others = f"{'0' * len(nonce)}-{version}", version, f"{nonce}-{int(version) - 1}"
        for rubbish in (*others, "-1", "x", "9" * 30, f"{nonce}-", f"{nonce}-{'9' * 30}"):
            assert (
                '"state": "final"'
                in await (await session.get(url, headers={"Last-Event-ID": rubbish})).text()
            )


async def test_conversations_and_their_histories_are_for_their_own_browser(site: WebAdapter) -> None:
    async with browser() as session:
        assert (await session.get(f"{site.url}/api/conversations")).status == 403, "the page sets the cookie"
        await session.get(site.url)
        await ask_page(session, site.url, "one", conversation=5, id="question-one")
        await ask_page(session, site.url, "two", conversation=6)
        listed = await (await session.get(f"{site.url}/api/conversations")).json()
        assert [(entry["id"], entry["title"]) for entry in listed] == [(6, "two"), (5, "one")]
        kept = await (await session.get(f"{site.url}/api/conversations/5")).json()
        assert [(turn["ref"], turn["question"]) for turn in kept["turns"]] == [("question-one", "one")]
        outline = await (await session.get(f"{site.url}/api/conversations/5/outline")).json()
        (number,) = kept["turns"][0]["branches"]
        assert outline["turns"] == [
            {
                "ref": "question-one",
                "number": number,
                "branches": [number],
                "length": len(kept["turns"][0]["text"]),
            }
        ]
        choice = {"conversation": 5, "turn": number}
        assert (await session.post(f"{site.url}/api/branch", json=choice)).status == 200
        later = f"{site.url}/api/conversations?before={listed[0]['at']}&id=6"
        assert [entry["id"] for entry in await (await session.get(later)).json()] == [5]
        for wrong in ("before=soon&id=6", "before=nan&id=6", "before=1", f"before=1&id={'é' * 65}"):
            assert (await session.get(f"{site.url}/api/conversations?{wrong}")).status == 400
    async with browser() as other:
        await other.get(site.url)
        assert await (await other.get(f"{site.url}/api/conversations")).json() == []
        assert (await (await other.get(f"{site.url}/api/conversations/5")).json())["turns"] == []
        assert (await (await other.get(f"{site.url}/api/conversations/5/outline")).json())["turns"] == []
        assert await (await other.get(later)).json() == []
        assert (await other.post(f"{site.url}/api/branch", json=choice)).status == 409


async def test_who_has_a_cookie_of_an_earlier_release_keeps_the_conversations(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    cookie = 2**62 + 12345
    old = UserKey(PLATFORM, str(cookie))
    place = ConversationKey(PLATFORM, "7", str(cookie))
    asked = Message("old-1", place, old, "what I asked then")
    await sqlite_store.accept(asked, 1.0)
    await sqlite_store.finish(
        asked, StoredAnswer("said then", "final", ""), question=asked.text, at=time.time(), ref="old-1"
    )
    await sqlite_store.delivered(asked)
    async with web(engine, sqlite_store) as site, browser() as session:
        kept = {"Cookie": f"glmbot_session={cookie}"}
        for _ in range(2):
            async with session.get(f"{site.url}/api/conversations", headers=kept) as answer:
                assert [(each["id"], each["title"]) for each in await answer.json()] == [(7, asked.text)]
            async with session.get(f"{site.url}/api/conversations/7", headers=kept) as answer:
                (turn,) = (await answer.json())["turns"]
                assert (turn["ref"], turn["text"]) == ("old-1", "said then")
        assert list(await sqlite_store.conversations(old)) == []
        # The number that logs hold now is of no use as a cookie.
        stolen = {"Cookie": f"glmbot_session={person_of(str(cookie))}"}
        async with session.get(f"{site.url}/api/conversations", headers=stolen) as answer:
            assert await answer.json() == []
        async with session.get(f"{site.url}/api/conversations", headers=kept) as answer:
            assert len(await answer.json()) == 1


async def test_nobody_reads_another_browsers_stream(site: WebAdapter) -> None:
    async with browser() as mine, browser() as other:
        await mine.get(site.url)
        await other.get(site.url)
        body = {"id": "private1", "conversation": 1, "text": "hello"}
        stream = (await (await mine.post(f"{site.url}/api/messages", json=body)).json())["stream"]
        assert (await other.get(f"{site.url}/api/streams/{stream}")).status == 404


async def test_stop_from_the_page_ends_the_answer(engine: LocalEngine, sqlite_store: Store) -> None:
    async with (
        web(engine, sqlite_store, sampling=Sampling(max_tokens=1900, temperature=0)) as site,
        browser() as session,
    ):
        await session.get(site.url)
        with held(engine, after=6):
            running = asyncio.create_task(ask_page(session, site.url, "go on", id="running-1"))
            await until(lambda: engine.stats().tokens_generated > 5)
            await ask_page(session, site.url, "/stop", id="stopping-1")
            assert (await running)["state"] == "stopped"
        await until(lambda: engine.stats().running == 0)


async def test_an_unfinished_answer_is_there_after_a_restart(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    async with browser() as session:
        async with web(engine, sqlite_store, sampling=Sampling(max_tokens=1900, temperature=0)) as site:
            await session.get(site.url)
            body = {"id": "restart-1", "conversation": 1, "text": "go on"}
            with held(engine, after=6):
                stream = (await (await session.post(f"{site.url}/api/messages", json=body)).json())["stream"]
                await until(lambda: engine.stats().tokens_generated > 5)
                await site._streams.drain(0)
        port = int(site.url.rpartition(":")[2])
        async with web(engine, sqlite_store, settings=WebSettings(port=port)) as site:
            events = [event async for event in read_events(session, f"{site.url}/api/streams/{stream}")]
    assert events[-1]["state"] == "final"


# ---- the OpenAI-compatible interface -----------------------------------------------------------------------


async def test_a_question_that_could_not_be_stored_is_not_shown_as_being_answered(
    site: WebAdapter, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> bool:
        raise StoreError("the disk is full")

    async with browser() as session:
        await session.get(site.url)
        body = {"id": "once-more", "conversation": 1, "text": "hello"}
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_store, "accept", full)
            async with session.post(f"{site.url}/api/messages", json=body) as refused:
                assert refused.status == 503
        async with session.get(f"{site.url}/api/conversations/1") as history:
            assert await history.json() == {"turns": [], "running": []}
        assert (await ask_page(session, site.url, "hello", id="once-more"))["state"] == "final"


async def test_an_answer_whose_claim_was_lost_is_begun_again_in_the_same_stream(
    engine: LocalEngine, redis_url: str
) -> None:
    store = RedisStore(redis_url, prefix=f"test-{time.time_ns()}")
    async with web(engine, store, claim_s=2) as site, browser() as session:
        await session.get(site.url)
        body = {"id": "claim-lost", "conversation": 1, "text": "go on"}
        with held(engine):
            stream = (await (await session.post(f"{site.url}/api/messages", json=body)).json())["stream"]
            await until(lambda: engine.stats().running == 1)
            (conversation,) = await store.open_conversations("web")
            claim = store._keys.of(conversation, "claim")
            await store._redis.set(claim, "elsewhere/1/x")
            await until(lambda: engine.stats().requests_cancelled == 1)
            await store._redis.delete(claim)
        await until_async(lambda: store.last_turns(conversation, 5), lambda turns: len(turns) == 1)
        events = [event async for event in read_events(session, f"{site.url}/api/streams/{stream}")]
        (turn,) = await store.last_turns(conversation, 5)
        assert (events[-1]["state"], events[-1]["text"]) == ("final", turn.answer)
    await store.close()


async def test_the_openai_client_completes_streaming_and_not(site: WebAdapter, engine: LocalEngine) -> None:
    client = AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none")
    assert [model.id async for model in await client.models.list()] == [engine.model_name]
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    wish: Any = {"model": engine.model_name, "messages": messages, "max_tokens": 20, "temperature": 0}
    whole = await client.chat.completions.create(**wish)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 20
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 20
    stream = await client.chat.completions.create(**wish, stream=True, stream_options={"include_usage": True})
    text, finishes, usage = "", [], None
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content
    assert finishes == ["length"]
    assert usage == whole.usage
    cut = (whole.choices[0].message.content or "")[5:8]
    stopped = await client.chat.completions.create(**wish, stop=[cut])
    assert stopped.choices[0].finish_reason == "stop"
    await client.close()


async def test_the_openai_client_with_the_demo_model(demo_model: Path, sqlite_store: Store) -> None:
    engine = await LocalEngine.start(LocalEngineSettings(demo_model, precision=Precision.FP32))
    async with web(engine, sqlite_store) as site:
        client = AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none")
        answer = await client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason == "stop"
        await client.close()
    await engine.close()


async def test_errors_have_the_openai_form(site: WebAdapter) -> None:
    client = AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "word " * 5000}]
        )
    assert long.value.code == "context_length_exceeded"
    # By these words litellm and crewAI know that less must be sent, and by none of these that they must wait.
    said = str(long.value).lower()
    assert "this model's maximum context length is" in said
    assert not re.search(r"rate[\s_-]*limit", said)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], temperature=9
        )
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nothing")
    await client.close()


async def test_programs_are_moderated_like_people(engine: LocalEngine, sqlite_store: Store) -> None:
    words = moderated(["bomb", "你好"])
    async with web(engine, sqlite_store, moderation=words) as site:
        client = AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none")
        with pytest.raises(openai.BadRequestError, match="does not allow"):
            await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "a bomb"}])
        ask: Any = {
            "model": "x",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 300,
            "seed": 1,
        }
        whole = await client.chat.completions.create(**ask)
        assert whole.choices[0].finish_reason == "content_filter"
        text, finish = "", ""
        async for chunk in await client.chat.completions.create(**ask, stream=True):
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        assert finish == "content_filter"
        assert "你好" not in text + (whole.choices[0].message.content or "")
        async with (
            browser() as session,
            session.post(site.url, json={"prompt": "a bomb", "history": []}) as answer,
        ):
            assert answer.status == 400
        await client.close()


async def test_a_client_that_goes_away_in_mid_stream_frees_the_engine(
    engine: LocalEngine, site: WebAdapter
) -> None:
    body = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 1900, "temperature": 0}
    for stream in (True, False):
        with held(engine, after=6):
            async with aiohttp.ClientSession() as session:
                before = engine.stats().tokens_generated
                request = asyncio.create_task(
                    session.post(f"{site.url}/v1/chat/completions", json={**body, "stream": stream})
                )
                await until(lambda before=before: engine.stats().tokens_generated > before + 5)
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
            await until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_tokens_used == 0
    async with aiohttp.ClientSession() as session:
        assert (await session.get(f"{site.url}/healthz")).status == 200


# ---- the ChatGLM-6B projects' interface --------------------------------------------------------------------


async def test_the_chatglm_interface_answers_in_its_form(site: WebAdapter) -> None:
    async with aiohttp.ClientSession() as session:
        body = {
            "prompt": "你好",
            "history": [["hi", "hello"]],
            "max_length": 300,
            "top_p": 0.7,
            "temperature": 0.95,
        }
        answer = await (await session.post(site.url, json=body)).json()
        assert set(answer) == {"response", "history", "status", "time"}
        assert answer["status"] == 200
        assert answer["history"] == [["hi", "hello"], ["你好", answer["response"]]]
        wrong = await session.post(site.url, json={"history": []})
        assert wrong.status == 400
        assert "prompt" in (await wrong.json())["response"]


async def test_the_chatglm_interface_answers_although_answers_may_be_as_long_as_its_context(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    long = Sampling(max_tokens=1900, temperature=0)
    async with (
        web(engine, sqlite_store, sampling=long, system_prompt="You are kind to everybody.") as site,
        aiohttp.ClientSession() as session,
    ):
        for length in (200, None):
            body = {"prompt": "你好", "history": [["hi", "hello"]], "max_length": length}
            answer = await session.post(site.url, json=body)
            assert answer.status == 200, await answer.text()
            assert (await answer.json())["response"]


# ---- bad input and strangers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/api/messages", "/api/login"])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"{}", b"\xff\xfe", b'{"messages": 5, "prompt": 5, "text": 5}',
        b'{"messages": [], "prompt": null}', b'{"messages":[{"role":"robot","content":"x"}]}', b"[" * 100_000,
        b'{"messages":[{"role":"user","content":"\\ud800"}],"max_tokens":1e99}',
    ],
)  # fmt: skip
async def test_malformed_bodies_get_a_clear_400(site: WebAdapter, path: str, body: bytes) -> None:
    async with browser() as session:
        await session.get(site.url)
        headers = {"Content-Type": "application/json"}
        async with session.post(site.url + path, data=body, headers=headers) as response:
            assert response.status == 400
            assert "Traceback" not in await response.text()
        assert (await session.get(f"{site.url}/healthz")).status == 200


async def test_a_megabyte_is_answered_and_much_more_refused(site: WebAdapter) -> None:
    async with browser() as session:
        await session.get(site.url)
        assert "too long" in (await ask_page(session, site.url, "x" * 1_000_000))["notice"]
        body = {"id": "12345678", "conversation": 1, "text": "x" * 20_000_000}
        async with session.post(f"{site.url}/api/messages", json=body) as response:
            assert response.status == 413


async def test_a_body_that_comes_too_slowly_is_given_up(
    site: WebAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glmbot_web.adapter, "_BODY_S", 0.2)
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000\r\n\r\n{{".encode())
    assert b"408" in await asyncio.wait_for(reader.readline(), 90)
    writer.close()


async def test_a_client_that_never_reads_loses_its_connection_and_its_generation(
    engine: LocalEngine, site: WebAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glmbot_web.events, "_LONGEST_WRITE_S", 0.2)
    # As if the buffers on the way were full.
    monkeypatch.setattr(aiohttp.web.StreamResponse, "write", _stuck)
    async with browser() as session:
        body = {"messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 1500}
        with held(engine, after=6), pytest.raises(aiohttp.ClientError):
            async with session.post(f"{site.url}/v1/chat/completions", json=body) as answer:
                await answer.read()
    await until(lambda: engine.stats().running == 0)
    assert engine.stats().requests_cancelled == 1


async def _stuck(*_: object, **__: object) -> None:
    await asyncio.sleep(3600)


async def test_other_sites_and_other_names_are_refused(site: WebAdapter) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        origin = {"Origin": "https://evil.example"}
        assert (
            await session.post(f"{site.url}/v1/chat/completions", json=body, headers=origin)
        ).status == 403
        assert (await session.get(f"{site.url}/healthz", headers={"Host": "evil.example"})).status == 403


async def test_without_a_token_only_this_machine_is_served(engine: LocalEngine, sqlite_store: Store) -> None:
    with pytest.raises(AdapterError, match="set token"):
        async with web(engine, sqlite_store, settings=WebSettings(host="0.0.0.0", port=0)):
            pass


async def test_with_a_token_everything_asks_for_it(engine: LocalEngine, sqlite_store: Store) -> None:
    settings = WebSettings(port=0, token=SecretStr("open-sesame"))
    async with web(engine, sqlite_store, settings=settings) as site, browser() as session:
        await session.get(site.url)
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            refused = await session.post(f"{site.url}/v1/chat/completions", json=body, headers=headers)
            assert refused.status == 401
        bearer = {"Authorization": "Bearer open-sesame"}
        assert (
            await session.post(f"{site.url}/v1/chat/completions", json=body, headers=bearer)
        ).status == 200
        assert (await session.post(f"{site.url}/", json={"prompt": "hi"})).status == 401
        assert (await session.get(f"{site.url}/api/hello")).status == 401
        assert (await session.post(f"{site.url}/api/login", json={"token": "wrong"})).status == 401
        assert (await session.post(f"{site.url}/api/login", json={"token": "open-sesame"})).status == 200
        assert (await session.get(f"{site.url}/api/hello")).status == 200
        cookies = "".join(cookie.value for cookie in session.cookie_jar)
        assert "open-sesame" not in cookies


async def test_a_taken_port_is_said_with_what_to_do(
    site: WebAdapter, engine: LocalEngine, sqlite_store: Store
) -> None:
    port = int(site.url.rpartition(":")[2])
    with pytest.raises(AdapterError, match=rf"127.0.0.1:{port} can't be listened on.*\[web\] port"):
        async with web(engine, sqlite_store, settings=WebSettings(port=port)):
            pass


async def test_precision_is_for_pages_that_are_administrators(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    async with web(engine, sqlite_store) as site, browser() as session:
        await session.get(site.url)
        assert "administrators" in (await ask_page(session, site.url, "/precision int8"))["notice"]
    async with (
        web(engine, sqlite_store, settings=WebSettings(port=0, admin=True)) as site,
        browser() as session,
    ):
        await session.get(site.url)
        assert "int8" in (await ask_page(session, site.url, "/precision int8"))["notice"]
    assert engine.precision is Precision.INT8


async def test_healthz_tells_when_the_engine_has_died(engine: LocalEngine, site: WebAdapter) -> None:
    async with aiohttp.ClientSession() as session:
        good = await (await session.get(f"{site.url}/healthz")).json()
        assert good["status"] == "ok"
        await engine.close()
        await until_async(lambda: session.get(f"{site.url}/healthz"), lambda response: response.status == 503)


markdown = st.lists(
    st.text(max_size=12)
    | st.sampled_from(
        [
            "<script>alert(1)</script>",
            "<img src=x onerror=a>",
            "[x](javascript:alert(1))",
            "![x](http://a/b.png)",
            "```html\n<b>\n```",
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "\n\n",
            "**",
            "<!--",
            "&lt;script&gt;",
            "[a]: data:x",
        ]
    )  # fmt: skip
).map("".join)


@given(markdown)
def test_no_markup_of_the_models_reaches_the_page(text: str) -> None:
    html = to_html(text).lower()
    for forbidden in ("<script", "<img", "onerror=a>", 'href="javascript:', 'href="data:', "<b>", "<iframe"):
        assert forbidden not in html


async def test_readyz_tells_when_the_store_is_gone_and_when_it_is_back(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    async with web(engine, sqlite_store) as site, browser() as session:
        url = f"{site.url}/readyz"
        assert (await session.get(url)).status == 200
        full = True

        async def check() -> None:
            if full:
                raise StoreError("the disk is gone")

        sqlite_store.check = check
        # The store is asked once a second at most.
        await until_async(lambda: session.get(url), lambda answer: answer.status == 503)
        answer = await session.get(url)
        assert await answer.json() == {"status": "not ready", "missing": ["store: the disk is gone"]}
        assert (await session.get(f"{site.url}/healthz")).status == 200, "alive all the same"
        full = False
        await until_async(lambda: session.get(url), lambda answer: answer.status == 200)
