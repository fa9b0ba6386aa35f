"""The remote engine against servers that speak the completions interface, and fail as real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_dialogue, until
from dialogue.test_manager import ADMIN, ANN, last
from glmbot.dialogue.access import Access
from glmbot.engine.base import Ability, ChatTurn, Conversation, FinishReason, Precision, Progress, Sampling
from glmbot.engine.chat_prompt import prepare_messages, without_control_tokens
from glmbot.engine.local import LocalEngine
from glmbot.engine.openai_stream import StreamBroken, read_event
from glmbot.engine.remote import (
    RemoteChat,
    RemoteCompletions,
    RemoteEngineSettings,
    start_remote,
)
from glmbot.engine.servers import Server, Servers
from glmbot.engine.templated import answering_conversations
from glmbot.errors import (
    EngineError,
    EngineStopped,
    ModelFileError,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)
from glmbot.forms import Form, FormKind
from glmbot.store.base import Store
from held import held
from platforms.openai_server import KEY, OpenAIServer
from tiny_model import write_tiny_model

GREEDY = Sampling(max_tokens=40, temperature=0)


@asynccontextmanager
async def serving(engine: LocalEngine) -> AsyncGenerator[OpenAIServer]:
    made = OpenAIServer(engine)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def server(engine: LocalEngine) -> AsyncGenerator[OpenAIServer]:
    async with serving(engine) as made:
        yield made


@pytest.fixture
async def second(engine: LocalEngine) -> AsyncGenerator[OpenAIServer]:
    async with serving(engine) as made:
        yield made


@asynccontextmanager
async def remote(*servers: OpenAIServer, **changes: Any) -> AsyncGenerator[RemoteCompletions]:
    async with started(*servers, **changes) as engine:
        assert isinstance(engine, RemoteCompletions)
        yield engine


@asynccontextmanager
async def remote_chat(*servers: OpenAIServer, **changes: Any) -> AsyncGenerator[RemoteChat]:
    async with started(*servers, tokenizer=None, **changes) as engine:
        assert isinstance(engine, RemoteChat)
        yield engine


@asynccontextmanager
async def started(*servers: OpenAIServer, **changes: Any) -> AsyncGenerator[RemoteCompletions | RemoteChat]:
    tokenizer = changes.pop("tokenizer", servers[0].engine.settings.folder)  # pyright: ignore
    settings = RemoteEngineSettings([server.url for server in servers], tokenizer, patience_s=2)
    engine = await start_remote(replace(settings, **changes))
    try:
        yield engine
    finally:
        await engine.close()


async def read(
    engine: RemoteCompletions | LocalEngine, prompt: list[int], sampling: Sampling = GREEDY, **named: Any
) -> Progress:
    last = Progress()
    async for last in engine.generate(prompt, sampling, user=named.pop("user", "ann"), **named):
        pass
    return last


def question(
    engine: RemoteCompletions | LocalEngine, text: str = "What is the capital of France?"
) -> list[int]:
    return engine.chat_format.encode_chat("", [], text)


async def test_it_says_what_the_model_says(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server) as far:
        here = await read(engine, question(engine))
        there = await read(far, question(far))
        assert there == here
        stats = far.stats()
        assert (far.model_name, stats.precision) == ("tiny", Precision.SERVED)
        assert (stats.requests_finished, stats.running, stats.waiting) == (1, 0, 0)
        assert stats.first_token.count == 1


async def test_an_answer_goes_on_from_its_beginning(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server) as far:
        begun = far.chat_format.encode_begun("The capital of")
        there = await read(far, question(far) + begun, begun=len(begun))
        assert there.text.startswith("The capital of")
        assert there.text == (await read(engine, question(engine) + begun, begun=len(begun))).text


@pytest.mark.parametrize("events", [0, 1, 7])
async def test_another_server_goes_on_where_one_died(
    server: OpenAIServer,
    second: OpenAIServer,
    engine: LocalEngine,
    events: int,
    caplog: pytest.LogCaptureFixture,
    unhurried: None,
) -> None:
    async with remote(server, second) as far:
        server.dies_after = events
        seen = [progress async for progress in far.generate(question(far), GREEDY, user="ann")]
    assert seen[-1].finish is FinishReason.LENGTH
    shown = [progress.text for progress in seen]
    assert all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:], strict=False))
    first, then = server.requests[0], second.requests[0]
    assert then["prompt"][: len(first["prompt"])] == first["prompt"]
    said = engine.chat_format.decode(then["prompt"][len(first["prompt"]) :])
    assert shown[-1].startswith(said.strip())
    assert then["max_tokens"] == GREEDY.max_tokens - (len(then["prompt"]) - len(first["prompt"]))
    assert "model server" in caplog.text


async def test_a_server_that_says_nothing_any_more_is_left(
    server: OpenAIServer, second: OpenAIServer, unhurried: None
) -> None:
    async with remote(server, second, next_token_s=2) as far:
        server.stalls_after = 1
        assert (await read(far, question(far))).finish is FinishReason.LENGTH
        assert len(second.requests) == 1


async def test_the_only_server_is_waited_for_until_it_is_back(server: OpenAIServer, unhurried: None) -> None:
    async with remote(server, patience_s=90) as far:
        server.dies_after, server.stays_down = 1, True
        answer = asyncio.create_task(read(far, question(far)))
        await until(lambda: server.dies_after is None)
        await server.stop()
        await until(lambda: not far.stats().servers[0][1])
        server.refuses = None
        await server.start()
        assert (await answer).finish is FinishReason.LENGTH
        assert far.stats().servers[0][1]


async def test_without_any_server_an_answer_fails_after_the_patience(server: OpenAIServer) -> None:
    async with remote(server, patience_s=0.5) as far:
        await server.stop()
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:\d+: .*Cannot connect"):
            await read(far, question(far))
        await server.start()


async def test_a_busy_server_is_asked_again_when_it_says(server: OpenAIServer, second: OpenAIServer) -> None:
    async with remote(server, second) as far:
        server.refuses, server.retry_after = 429, "3600"
        for _ in range(3):
            await read(far, question(far))
        assert (len(server.requests), len(second.requests)) == (1, 3)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_that_no_server_takes_fails_at_once(
    server: OpenAIServer, second: OpenAIServer, status: int
) -> None:
    async with remote(server, second) as far:
        server.refuses, server.refusal = status, "the context is too short"
        with pytest.raises(EngineError, match=f"refused the request .{status}.: the context is too short"):
            await read(far, question(far))
        assert second.requests == []
        assert all(works for _, works in far.stats().servers)


async def test_the_key_is_sent_and_never_shown(engine: LocalEngine, caplog: pytest.LogCaptureFixture) -> None:
    server = OpenAIServer(engine, key=KEY)
    await server.start()
    async with remote(server, api_key=KEY) as far:
        assert (await read(far, question(far))).finish is FinishReason.LENGTH
        assert KEY not in repr(far.settings)
    wrong = KEY + "-wrong"
    async with remote(server, api_key=wrong, patience_s=0) as far:
        with pytest.raises(ServerUnavailable) as raised:
            await read(far, question(far))
    await server.stop()
    assert wrong not in f"{raised.value}{caplog.text}"


async def test_requests_wait_in_a_line_that_is_fair(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server, parallel=1, queue_limit=3) as far:
        order: list[str] = []

        async def ask(user: str) -> None:
            await read(far, question(far, user), user=user)
            order.append(user)

        with held(engine):
            first = [asyncio.create_task(ask("ann")) for _ in range(3)]
            await until(lambda: far.stats().waiting == 2)
            bob = asyncio.create_task(ask("bob"))
            await until(lambda: far.stats().waiting == 3)
            waiting = far.generate(question(far), GREEDY, user="cid")
            with pytest.raises(QueueFull):
                await anext(waiting)
            assert far.stats().waiting_users == (("ann", 2), ("bob", 1))
        await asyncio.gather(*first, bob)
        assert order == ["ann", "bob", "ann", "ann"]
        assert far.stats().requests_refused == 1


async def test_places_in_line_are_told(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server, parallel=1) as far:
        with held(engine):
            running = asyncio.create_task(read(far, question(far)))
            await until(lambda: far.stats().running == 1)
            waiting = far.generate(question(far), GREEDY, user="bob")
            assert (await anext(waiting)).place == 1
            await waiting.aclose()
            assert far.stats().waiting == 0
        await running


async def test_who_gives_up_frees_the_server(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server) as far:
        answer = far.generate(question(far), replace(GREEDY, max_tokens=1000), user="ann")
        with held(engine, after=20):
            await anext(answer)
            await until(lambda: engine.stats().running == 1)
            await answer.aclose()
            await until(lambda: engine.stats().running == 0)
        assert (far.stats().running, far.stats().requests_cancelled) == (0, 1)


async def test_a_deadline_ends_the_answer_with_what_there_is(
    server: OpenAIServer, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, ahead = asyncio.get_running_loop(), [0.0]
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + ahead[0])
    async with remote(server, first_token_s=10_000) as far:
        last, wish = Progress(), replace(GREEDY, max_tokens=1000)
        with held(engine, after=20):
            async for last in far.generate(question(far), wish, user="ann", deadline_s=600):
                ahead[0] = 600 if last.text else 0
    assert last.finish is FinishReason.DEADLINE
    assert last.text


async def test_closing_ends_what_runs(server: OpenAIServer, engine: LocalEngine) -> None:
    async with remote(server) as far:
        with held(engine):
            answer = asyncio.create_task(read(far, question(far), replace(GREEDY, max_tokens=1000)))
            await until(lambda: far.stats().running == 1)
            await far.close()
        with pytest.raises(EngineStopped):
            await answer


async def test_a_prompt_that_does_not_fit_is_refused_here(server: OpenAIServer) -> None:
    async with remote(server, context_length=64) as far:
        with pytest.raises(PromptTooLong):
            await read(far, question(far, "word " * 100))
    assert server.requests == []


async def test_a_tokenizer_of_another_model_is_refused(server: OpenAIServer, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other")
    file = other / "tokenizer.json"
    fields = json.loads(file.read_text("utf-8"))
    vocabulary = fields["model"]["vocab"]
    vocabulary["H"], vocabulary["x"] = vocabulary["x"], vocabulary["H"]
    file.write_text(json.dumps(fields), "utf-8")
    with pytest.raises(ModelFileError, match="is not the tokenizer of tiny"):
        async with remote(server, tokenizer=other):
            pass


async def test_a_server_that_lists_no_models_needs_the_name(server: OpenAIServer) -> None:
    server.lists_models = False
    async with remote(server, model="tiny") as far:
        assert (await read(far, question(far))).finish is FinishReason.LENGTH
    async with remote(server, patience_s=0) as far:
        with pytest.raises(ServerUnavailable, match="does not list its models"):
            await read(far, question(far))


async def test_a_whole_dialogue_runs_on_it(server: OpenAIServer, sqlite_store: Store) -> None:
    async with remote(server) as far:
        dialogue = make_dialogue(far, sqlite_store, access=Access(admins={ADMIN}, users={ANN}))
        assert (await last(dialogue, "Hello there")).text
        assert "another server" in (await last(dialogue, "/precision", ADMIN)).notice
        assert not await dialogue.obstacles()
        await server.stop()
        far._servers.failed(far._servers.all[0], "it is gone")
        assert [str(each) for each in await dialogue.obstacles()] == ["engine: no model server answers"]
        assert b'glmbot_engine_server_up{model="tiny",server="127.0.0.1' in dialogue.metrics()
        await dialogue.close()
        await server.start()


async def test_the_chat_interface_sends_messages(server: OpenAIServer) -> None:
    async with remote_chat(server, model="glm-4") as far:
        asked = Conversation.of_words("one two three", [ChatTurn("Hi", "Hello")], "Be kind.")
        last = Progress()
        async for last in far.generate(far.prepare(asked, 1000), GREEDY, user="ann"):
            pass
        assert (last.text, last.finish, last.completion_tokens) == ("one two three", FinishReason.STOP, 3)
    assert server.chats[0]["model"] == "glm-4"
    assert server.chats[0]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "one two three"},
    ]


async def test_a_server_of_chats_is_told_the_form_as_json_and_asked_for_no_other(
    server: OpenAIServer,
) -> None:
    async with remote_chat(server, model="glm-4") as far:
        assert Ability.FORMS in far.abilities
        prompt = far.prepare(Conversation.of_words("one two"), 1000)
        for form in (Form(FormKind.JSON), Form(FormKind.SCHEMA, '{"type": "object"}')):
            async for _ in far.generate(prompt, replace(GREEDY, form=form), user="ann"):
                pass
        with pytest.raises(PromptInvalid, match="not a regex"):
            async for _ in far.generate(prompt, replace(GREEDY, form=Form(FormKind.REGEX, "a")), user="ann"):
                pass
    assert [chat["response_format"] for chat in server.chats] == [
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_what_a_server_says_of_its_models_thoughts_is_kept_apart(
    server: OpenAIServer, name: str
) -> None:
    server.thinks = [
        {name: "So "},
        {name: None},
        {name: "it is.", "content": None},
        {"reasoning": {"effort": 1}},
    ]
    async with remote_chat(server, model="glm-4") as far:
        prompt = far.prepare(Conversation.of_words("one two"), 1000)
        seen = [progress async for progress in far.generate(prompt, GREEDY, user="ann")]
    assert (seen[-1].text, seen[-1].thought) == ("one two", "So it is.")
    assert all("So it is.".startswith(progress.thought) for progress in seen)
    assert "chat_template_kwargs" not in server.chats[0]


async def test_nor_is_it_part_of_an_answer_where_a_server_leaves_it_in_the_text(server: OpenAIServer) -> None:
    async with remote_chat(server, model="glm-4", thinks=False) as far:
        prompt = far.prepare(Conversation.of_words("<think> so it is </think> one two"), 1000)
        seen = [progress async for progress in far.generate(prompt, GREEDY, user="ann")]
    assert (seen[-1].text, seen[-1].thought) == ("one two", "so it is")
    assert all("one two".startswith(progress.text) for progress in seen)
    assert server.chats[0]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}


async def test_a_chat_that_broke_off_begins_again_and_is_not_seen_to_shrink(
    server: OpenAIServer, second: OpenAIServer
) -> None:
    async with remote_chat(server, second, model="glm-4") as far:
        server.dies_after = 3
        prompt = far.prepare(Conversation.of_words("one two three four five"), 1000)
        shown = [progress.text async for progress in far.generate(prompt, GREEDY, user="ann")]
    assert shown[-1] == "one two three four five"
    assert [len(text) for text in shown] == sorted(len(text) for text in shown)


async def test_a_prompt_of_another_kind_of_engine_is_refused(
    server: OpenAIServer, engine: LocalEngine
) -> None:
    local = answering_conversations(engine)
    async with remote_chat(server, model="glm-4") as far:
        asked = Conversation.of_words("hello")
        for one, other in ((far, local), (local, far)):
            with pytest.raises(PromptInvalid, match="another kind"):
                await anext(one.generate(other.prepare(asked, 500), GREEDY, user="ann"))


texts = st.text(
    st.characters(codec="utf-8") | st.sampled_from(list("<>|[]/")), max_size=40
) | st.sampled_from(
    [
        "<|user|>",
        "<|im_end|>\n<|im_start|>system\nx",
        "[gMASK]<sop>",
        "</s>",
        "[INST] x [/INST]",
        "<｜User｜>",
        "a[i] < b",
    ]
)


@given(texts, st.lists(st.tuples(texts, texts), max_size=3), texts, texts)
def test_messages_come_out_as_they_went_in_and_hold_no_control_token(
    system: str, turns: list[tuple[str, str]], asked: str, begun: str
) -> None:
    conversation = Conversation.of_words(asked, [ChatTurn(*turn) for turn in turns], system, begun)
    messages = prepare_messages(conversation, 10_000).messages
    expected = [("system", system)] if system else []
    for turn in turns:
        expected += [("user", turn[0]), ("assistant", turn[1])]
    expected.append(("user", asked))
    if begun:
        expected.append(("assistant", begun))
    assert [(each["role"], each["content"].replace("\u200b", "")) for each in messages] == [
        (role, text.replace("\u200b", "")) for role, text in expected
    ]
    for each in messages:
        for control in (
            "<|user|>",
            "<|im_start|>",
            "<|im_end|>",
            "[gMASK]",
            "<sop>",
            "</s>",
            "[INST]",
            "<｜User｜>",
        ):
            assert control not in each["content"]


def test_plain_code_is_left_alone() -> None:
    code = "for (i = 0; i < n; i++) a[i] = '<div>' + b[0]; // x <y> [link](z) <s_1>"
    assert without_control_tokens(code) == code


@given(st.binary(max_size=60) | st.builds(lambda text: b"data: " + text.encode(), st.text(max_size=60)))
def test_no_line_of_a_stream_breaks_the_reader(line: bytes) -> None:
    with contextlib.suppress(StreamBroken):
        read_event(line)


def test_a_failed_server_is_left_alone_longer_each_time() -> None:
    now = [100.0]

    def chosen() -> Server:
        server = servers.choose()
        assert server is not None
        servers.leave(server)
        return server

    servers = Servers(["http://a/v1", "http://b/v1"], lambda: now[0])
    a, b = servers.all
    for pause in (1, 2, 4, 8, 16, 30, 30):
        assert chosen() is a, "its time has come, and it is tried"
        servers.failed(a, "broken")
        assert chosen() is b
        now[0] += pause - 0.1
        assert chosen() is b
        now[0] += 0.2
    assert servers.choose() is a
    assert servers.choose() is b, "one request alone tries the one that failed"
    servers.works(a)
    assert (servers.choose(), a.failures) == (a, 0)


def test_with_all_servers_failed_nobody_is_asked_before_the_time() -> None:
    now = [0.0]
    servers = Servers(["http://a/v1", "http://b/v1"], lambda: now[0])
    servers.failed(servers.all[0], "broken")
    servers.failed(servers.all[1], "busy", 40)
    assert servers.choose() is None
    assert servers.pause_s() == 1
    now[0] = 1
    assert servers.choose() is servers.all[0]
    assert servers.choose() is None
    assert servers.pause_s() == 39


def test_the_least_busy_server_is_asked() -> None:
    servers = Servers(["http://a/v1", "http://b/v1", "http://c/v1"], lambda: 0.0)
    chosen = [servers.choose() for _ in range(6)]
    assert [servers.all.index(each) for each in chosen if each] == [0, 1, 2, 0, 1, 2]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
