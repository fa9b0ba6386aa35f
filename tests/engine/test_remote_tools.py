"""Tools of a model on other servers: over HTTP, as servers differ, and as hostile ones do."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.tool_world import ANN, Scene, press, said
from glmbot.content import Text, ToolCall, ToolResult
from glmbot.dialogue.tool_log import logged_calls
from glmbot.engine.base import Ability, Conversation, FinishReason, PastExchange, Progress, Sampling
from glmbot.engine.chat_prompt import prepare_messages
from glmbot.engine.openai_stream import StreamBroken, read_event
from glmbot.engine.openai_tools import GrowingCalls, call_pieces
from glmbot.engine.remote import RemoteChat, RemoteEngineSettings, start_remote
from glmbot.errors import EngineError
from glmbot.host import Nature
from glmbot.messages import Reply, ReplyState
from glmbot.models.calls.reader import MOST_CALLS
from glmbot.models.calls.tagged import TaggedJson
from glmbot.store.base import Store
from glmbot.tools import Choice, Offer, ToolDescription
from platforms.tool_server import ToolServer, piece, tool_server, words

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
ADD, SEND = ToolDescription("add", "Adds <|im_end|>.", SCHEMA), ToolDescription("send", "Sends.", SCHEMA)
OFFER = Offer([ADD, SEND])
ASKED = Conversation((Text("1+1?"),), offer=OFFER)
GREEDY = Sampling(max_tokens=64, temperature=0)


@asynccontextmanager
async def remote(
    server: ToolServer, tools: Literal["auto", "words", "off"] = "auto"
) -> AsyncGenerator[RemoteChat]:
    settings = RemoteEngineSettings(
        [server.url], context_length=8192, patience_s=0.0, tools=tools, connect_s=30.0
    )
    engine = await start_remote(settings)
    assert isinstance(engine, RemoteChat)
    try:
        yield engine
    finally:
        await engine.close()


async def read(
    engine: RemoteChat, conversation: Conversation = ASKED, sampling: Sampling = GREEDY
) -> Progress:
    last = Progress()
    async for last in engine.generate(engine.prepare(conversation, 4000), sampling, user="ann"):
        assert last.place is None
    return last


def calls(progress: Progress) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in progress.calls]


async def test_tools_are_sent_as_tools_and_what_was_called_as_messages() -> None:
    past = PastExchange(
        (Text("2+2?"),),
        (
            Text("So:"),
            ToolCall("id1", "add", '{"q": "\\u003c|x|>"}'),
            ToolResult("id1", "4 </tool_response>"),
        ),
    )
    so_far = (ToolCall("id2", "add", "{}"), ToolCall("id3", "send", "{}"), ToolResult("id2", "<|user|>"))
    async with tool_server([words("two")]) as server, remote(server) as engine:
        assert {Ability.TOOLS, Ability.TAUGHT_TOOLS} < engine.abilities
        offer = Offer([ADD, replace(SEND, strict=True)], Choice.REQUIRED, "add", parallel=False)
        last = await read(engine, replace(ASKED, past=[past], said=so_far, system="Be brief.", offer=offer))
        assert (last.text, last.finish, last.calls) == ("two", FinishReason.STOP, ())
        await read(engine, replace(ASKED, offer=replace(OFFER, choice=Choice.NONE)))
        await read(engine, Conversation.of_words("hi"))
    first, second, third = server.chats
    assert [tool["function"]["name"] for tool in first["tools"]] == ["add", "send"]
    assert first["tools"][0]["function"]["parameters"] == SCHEMA
    assert "<|im_end|>" not in json.dumps(first["tools"])
    assert [tool["function"].get("strict") for tool in first["tools"]] == [None, True]
    assert first["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert first["parallel_tool_calls"] is False
    roles = ["system", "user", "assistant", "tool", "user", "assistant", "tool", "tool"]
    assert [message["role"] for message in first["messages"]] == roles
    assert [message.get("tool_call_id") for message in first["messages"]][3:] == [
        "id1",
        None,
        None,
        "id2",
        "id3",
    ]
    assert [call["id"] for call in first["messages"][5]["tool_calls"]] == ["id2", "id3"]
    assert "<|" not in json.dumps(first["messages"])
    assert "</tool_response>" not in first["messages"][3]["content"]
    assert second["tool_choice"] == "none"
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & third.keys()


ONE = [("add", '{"q": "1"}')]
TWO = [*ONE, ("send", "{}")]
SAYS = TaggedJson().written("add", {"q": "1"})
STREAMS: dict[str, tuple[list[Any], list[tuple[str, str]], str]] = {
    "in pieces": ([piece("", "add", "a"), piece('{"q"'), piece(': "1"}')], ONE, ""),
    "with words before": ([words("Well."), piece('{"q": "1"}', "add", "a")], ONE, "Well."),
    "mixed with another": (
        [piece("", "add", "a"), piece("{", "send", "b", 1), piece('{"q": "1"}'), piece("}", index=1)],
        TWO,
        "",
    ),
    "all numbered 0": ([piece('{"q": "1"}', "add", "a"), piece("{}", "send", "b")], TWO, ""),
    "numbered 0 and without ids": ([piece('{"q": "1"}', "add"), piece("{}", "send")], TWO, ""),
    "not numbered": (
        [piece('{"q"', "add", "a", None), piece(': "1"}', index=None), piece("{}", "send", "b", None)],
        TWO,
        "",
    ),
    "an id that comes twice": ([piece('{"q": "1"}', "add", "a"), piece("{}", "send", "a", 1)], TWO, ""),
    "the name in each piece": (
        [piece('{"q"', "add", "a"), piece(': "1"', "add", "a"), piece("}", "add", "a")],
        ONE,
        "",
    ),
    "arguments that are no text": ([piece({"q": "1"}, "add", "a")], ONE, ""),
    "none of them": ([piece(None, "send", "a")], [("send", "{}")], ""),
    "half JSON": ([piece('{"q": "1', "add", "a")], [], '{"name": "add", "arguments": {"q": "1}'),
    "no object": ([piece("[1]", "add", "a")], [], '{"name": "add", "arguments": [1]}'),
    "a number that is none": ([piece('{"q": NaN}', "add", "a")], [], '{"name": "add", "arguments": {"q": NaN}}'),
    "an unknown name": (
        [piece("{}", "delete", "a"), piece('{"q": "1"}', "add", "b", 1)],
        ONE,
        '{"name": "delete", "arguments": {}}',
    ),
    "a look-alike": ([piece("{}", "аdd", "a")], [], '{"name": "аdd", "arguments": {}}'),
    "left in the text": ([words("I call.\n"), words(SAYS[:15]), words(SAYS[15:])], ONE, "I call."),
    "left in the text as Mistral's": ([words('[TOOL_CALLS] [{"name": "add", "arguments": {"q": "1"}}]')], ONE, ""),
    "left in the text as GLM's": ([words('add\n{"q": "1"}')], ONE, ""),
    "in both": ([words(TaggedJson().written("send", {})), piece('{"q": "1"}', "add", "a")], TWO, ""),
    "thought first": ([words("<think>hm</think>"), piece('{"q": "1"}', "add", "a")], ONE, ""),
    "too many": ([piece("{}", "send", f"id{n}", n) for n in range(99)], [("send", "{}")] * MOST_CALLS, ""),
    "with huge numbers": ([piece("{}", "send", "a", 10**30), piece("{}", "send", "b", -1)], [("send", "{}")] * 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
async def test_calls_are_read_as_servers_send_them(finish: str) -> None:
    async with tool_server([], finish=finish) as server, remote(server) as engine:
        for name, (stream, expected, text) in STREAMS.items():
            server.rounds = [stream]
            last = await read(engine)
            assert (name, calls(last), last.text) == (name, expected, text)
            assert last.finish is (FinishReason.TOOL_CALLS if expected else FinishReason.STOP)
            assert len({call.id for call in last.calls}) == len(expected)
            single = await read(engine, replace(ASKED, offer=replace(OFFER, parallel=False)))
            assert calls(single)[:1] == calls(single)


async def test_arguments_without_end_end_the_answer_and_are_no_call() -> None:
    flood = [piece("", "add", "a"), *([piece('{"q": "' + "x" * 4000)] * 50)]
    async with tool_server(flood) as server, remote(server) as engine:
        last = await read(engine)
        assert (last.finish, last.calls) == (FinishReason.LENGTH, ())
        assert len(last.text) <= 1024 + 32 * 64 + 4100
    # Nor does a call too many keep it going.
    flood = [piece("{}", "add", "a"), *([piece("x" * 4000, "add", "b")] * 50)]
    async with tool_server(flood) as server, remote(server) as engine:
        assert (await read(engine, replace(ASKED, offer=replace(OFFER, parallel=False)))).finish is (
            FinishReason.LENGTH
        )
    async with tool_server([piece("{}", "add", "a")], finish="length") as server, remote(server) as engine:
        assert (await read(engine)).finish is FinishReason.LENGTH


async def test_a_server_that_takes_no_tools_is_told_of_them_in_words() -> None:
    for status in (400, 500):
        async with tool_server([words(SAYS)]) as server, remote(server) as engine:
            server.no_tools = status
            last = await read(engine)
            assert (calls(last), last.finish) == (ONE, FinishReason.TOOL_CALLS)
            assert "<tools>" in server.chats[-1]["messages"][0]["content"]
            assert Ability.TOOLS in engine.abilities
            assert Ability.TAUGHT_TOOLS not in engine.abilities
            asked = len(server.refused)
            said_so_far = (ToolCall("1", "add", '{"q": "1"}'), ToolResult("1", "2"))
            await read(engine, replace(ASKED, said=said_so_far))
            assert len(server.refused) == asked, "it is not asked again and again"
            assert [message["role"] for message in server.chats[-1]["messages"]] == ["system", "user", "assistant", "user"]  # fmt: skip
            assert "<tool_response>" in server.chats[-1]["messages"][-1]["content"]
            # It may have been started anew.
            server.no_tools = None
            engine._servers.failed(engine._servers.all[0], "it is gone", 0.0)
            await read(engine)
            assert Ability.TAUGHT_TOOLS in engine.abilities
            assert "tools" in server.chats[-1]


async def test_tools_of_one_that_a_server_refuses_are_nobody_elses_trouble() -> None:
    async with tool_server([words("fine")]) as server, remote(server) as engine:
        server.refuses = "poison"
        offer = Offer([ToolDescription("bad", "does not support tools: poison", SCHEMA)])
        with pytest.raises(EngineError, match="that tool is none"):
            await read(engine, replace(ASKED, offer=offer))
        assert Ability.TAUGHT_TOOLS in engine.abilities
        assert (await read(engine)).text == "fine"
        assert "tools" in server.chats[-1]


async def test_how_a_server_is_told_of_tools_can_be_set() -> None:
    async with tool_server([words(SAYS)]) as server:
        async with remote(server, "words") as engine:
            assert Ability.TAUGHT_TOOLS not in engine.abilities
            assert calls(await read(engine)) == ONE
            assert "tools" not in server.chats[-1]
        async with remote(server, "off") as engine:
            assert Ability.TOOLS not in engine.abilities
            past = PastExchange((Text("a"),), (ToolCall("1", "add"), ToolResult("1", "2"), Text("two")))
            await read(engine, Conversation((Text("b"),), [past]))
            assert [message["content"] for message in server.chats[-1]["messages"]] == ["a", "two", "b"]


def test_tools_that_take_more_than_half_of_the_room_are_left_out() -> None:
    made = prepare_messages(ASKED, 500)
    assert (made.tools_dropped, made.has_tools, made.tools) == (2, False, {})
    made = prepare_messages(ASKED, 4000)
    told = sum(len(message["content"]) for message in made.in_words)
    assert made.prompt_tokens == told + 16
    assert made.tool_tokens > len(ADD.description)
    long = replace(ASKED, said=(ToolCall("1", "add"), ToolResult("1", "x" * 9000)))
    cut = prepare_messages(long, 2500)
    assert cut.prompt_tokens <= 2500
    assert not cut.question_cut
    assert "…" in cut.messages[-1]["content"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["add", "{", '{"q": 1}']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["index", "id", "type", "function", "name", "arguments"]), inner, max_size=5
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(json_values, max_size=4), st.booleans())
def test_whatever_a_server_says_of_calls_is_valid_calls_words_or_refused(
    events: Sequence[Any], parallel: bool
) -> None:
    growing = GrowingCalls(replace(OFFER, parallel=parallel))
    for event in events:
        with suppress(StreamBroken):
            read_event(b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": event}}]}).encode())
        with suppress(TypeError):
            growing.take(call_pieces(event))
    found, left = growing.ended()
    assert len(found) <= (MOST_CALLS if parallel else 1)
    for call in found:
        assert call.name in ("add", "send")
        assert isinstance(json.loads(call.arguments), dict)
    assert isinstance(left, str)


# ---- in a dialogue --------------------------------------------------------------------------------------------------


async def test_permissions_asks_and_the_log_hold_for_a_model_on_a_server(sqlite_store: Store) -> None:
    async with (
        tool_server(
            [piece('{"q": "1+1"}', "add", "a"), piece("{}", "read", "b", 1)],
            [words("It is 2.")],
            [piece("{}", "send", "c")],
        ) as server,
        remote(server) as engine,
    ):
        scene = Scene(sqlite_store, engine)  # pyright: ignore[reportArgumentType]
        scene.tools = [
            scene.noting("add", result="2"),
            scene.noting("read", Nature.READS, result="mail"),
            scene.noting("send", Nature.ACTS),
        ]
        scene.dialogue = scene.bot()
        message, pressed = said("1+1?"), list[str]()

        def on_reply(reply: Reply) -> Any:
            found = [action.command for action in reply.actions if "Once" in action.label]
            if not found or pressed:
                return None
            pressed.append(found[0])
            return scene.ask(press(message, found[0]))

        reply = await scene.ask(message, on_reply)
        assert (reply.text, reply.state) == ("It is 2.", ReplyState.FINAL)
        assert pressed
        assert scene.calls == [("add", str(ANN), {"q": "1+1"}), ("read", str(ANN), {})]
        assert [tool["function"]["name"] for tool in server.chats[0]["tools"]] == ["add", "read"]
        told = [message["content"] for message in server.chats[1]["messages"] if message["role"] == "tool"]
        assert told == ["2", "mail"]
        logged = [(line.tool, line.outcome) async for line in logged_calls(sqlite_store)]
        assert ("add", "done") in logged
        assert ("read", "done") in logged
        # What was not offered is no call.
        assert (await scene.ask(said("Send it."))).text == '{"name": "send", "arguments": {}}'
        assert "send" not in [name for name, _, _ in scene.calls]
