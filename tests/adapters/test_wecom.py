"""WeCom's smart bots: what comes in, how answers grow, and what an answer may never do there."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import wecom_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, letters, nothing_left
from conftest import make_dialogue, until
from glmbot.delivery.outlet import Closed, Flooded, Gone, NotWritten, Piece, Refused, Unreachable
from glmbot.errors import PlatformRefused, StoreError
from glmbot.keys import ConversationKey
from glmbot.messages import Addressed, Message
from glmbot.store.base import Store
from glmbot_wecom import connection
from glmbot_wecom.adapter import WeComAdapter
from glmbot_wecom.normalize import REPLY, from_frame
from glmbot_wecom.refusals import MEANINGS, StreamGone, refused
from glmbot_wecom.render import (
    LONGEST_MARKDOWN,
    LONGEST_TEXT,
    fits,
    fits_text,
    render,
    size,
    text_of_piece,
    words_of_piece,
)
from platforms.wecom_server import GROUP, WeComServer, member

PRIVATE = member(7)
WORDS = " ".join(f"word{number}" for number in range(40))


@pytest.fixture
async def server() -> AsyncGenerator[WeComServer]:
    async with lawful(WeComServer(per_minute=10_000)) as server:
        yield server


def read(body: dict[str, Any], request: object = "req-1") -> Message:
    whole = {
        "msgid": "m1", "chattype": "single", "from": {"userid": "ann"}, "create_time": 1_700_000_000, "msgtype": "text",
        "text": {"content": "hello"}, **body,
    }  # fmt: skip
    return from_frame({"req_id": request}, whole, "en")


def group(words: str, **more: Any) -> dict[str, Any]:
    return {"chattype": "group", "chatid": GROUP, "text": {"content": words}, **more}


# ---- what is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "addressed", "words"),
    [
        ({}, Addressed.DIRECTLY, "hello"),
        (group("@小智 hello @ann"), Addressed.BY_MENTION, "hello @ann"),
        (group("@小智"), Addressed.BY_MENTION, ""),
        (group("@小智 /new"), Addressed.BY_COMMAND, "/new"),
        (group("@小智 !roll"), Addressed.NOT, "!roll"),
        ({"text": {"content": "@ann hello"}}, Addressed.DIRECTLY, "@ann hello"),
    ],
)
def test_who_is_spoken_to_and_in_which_words(body: dict[str, Any], addressed: Addressed, words: str) -> None:
    message = read(body)
    assert (message.addressed, message.text, message.language) == (addressed, words, "en")
    assert message.origin == {REPLY: "req-1"}


def test_a_name_with_spaces_is_no_part_of_what_is_said() -> None:
    body = {"msgid": "m", "msgtype": "text", "from": {"userid": "ann"}, **group("@GLM Bot\u2005/new")}
    message = from_frame({"req_id": "r"}, body, "en", "GLM Bot")
    assert (message.text, message.addressed) == ("/new", Addressed.BY_COMMAND)


def test_a_conversation_in_a_group_is_a_persons_own() -> None:
    message = read(group("@小智 hello"))
    assert message.conversation == ConversationKey("wecom", GROUP, "ann")


@pytest.mark.parametrize(
    ("body", "words", "media"),
    [
        ({"msgtype": "voice", "voice": {"content": "spoken"}}, "spoken", ""),
        ({"msgtype": "voice", "voice": {}}, "", "voice"),
        ({"msgtype": "image", "image": {"url": "https://x"}}, "", "photo"),
        ({"msgtype": "file", "file": {"url": "https://x"}}, "", "document"),
        ({"msgtype": "video", "video": {"url": "https://x"}}, "", "video"),
        ({"msgtype": "unheard of"}, "", "document"),
        (
            {"msgtype": "mixed", "mixed": {"msg_item": [
                {"msgtype": "text", "text": {"content": "see"}}, {"msgtype": "image", "image": {"url": "u"}},
                {"msgtype": "text", "text": {"content": "this"}}, 5]}},
            "see\nthis", "photo",
        ),
    ],
)  # fmt: skip
def test_what_is_not_text_is_read_or_named(body: dict[str, Any], words: str, media: str) -> None:
    message = read(body)
    assert (message.text, message.media) == (words, media)


def test_what_is_quoted_comes_along() -> None:
    message = read({"quote": {"msgtype": "text", "text": {"content": "earlier"}}})
    assert message.quoted == "earlier"


_VALUES = st.sampled_from(
    [None, True, 7, -1, 10**30, "", "\ud800", "single", "group", "text", "mixed", "image", "x" * 100_000, "a\0b", [], [{}], [5],
     {}, {"content": 5}, {"content": "\ud800"}, {"userid": 5}, {"userid": "u" * 65}, {"msg_item": [{"msgtype": "text"}]}]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(["msgid", "chattype", "chatid", "from", "create_time", "msgtype", "text", "mixed", "voice", "quote"]),
    _VALUES,
    max_size=6,
)  # fmt: skip


@settings(max_examples=100)
@given(_FIELDS, _VALUES)
def test_whatever_comes_is_read_or_refused(body: dict[str, Any], request: object) -> None:
    with suppress(ValueError):
        read(body, request)


# ---- what is shown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", [words_of_piece, text_of_piece])
@pytest.mark.parametrize(
    "calling",
    [
        "<@all>",
        "`<@ann>`",
        "```\n<@ann>\n```",
        "| a |\n| - |\n| <@ann> |",
        "[<@ann>](https://a.org)",
        '<a href="https://a.org">safe</a>',
        '<font color="warning">x</font>',
        "&lt;@ann&gt;",
    ],
)
def test_nobody_is_called_and_no_tag_is_written_by_what_the_model_says(show: Any, calling: str) -> None:
    for piece in (Piece(calling), Piece("", calling)):
        shown = show(piece)
        assert re.search(r"<(?!\u200b)[A-Za-z/@!]", shown) is None
        assert letters(shown)


@settings(max_examples=100)
@given(
    st.text(alphabet=st.sampled_from("ab1 \n*_~`<>@!#|&[]()-中。😀:/=") | st.characters(), max_size=300),
    st.integers(1, 60),
)
def test_messages_are_never_longer_than_wecom_takes(markdown: str, times: int) -> None:
    whole = Piece(markdown * times, markdown * times)
    assert 0 < size(words_of_piece(whole)) <= LONGEST_MARKDOWN
    assert 0 < size(text_of_piece(whole)) <= LONGEST_TEXT
    notice = "提" * 150
    if fits(whole.text):
        assert letters(render(whole.text)) in letters(words_of_piece(Piece(whole.text, notice)))
        assert words_of_piece(Piece(whole.text, notice)).endswith(notice)
    if fits_text(whole.text):
        assert text_of_piece(Piece(whole.text, notice)).endswith(notice)


def test_an_answer_looks_as_it_is_meant() -> None:
    shown = render(
        "# 标题\n\n这是**重点**，见[页](https://a.org/)。\n\n- one\n  - two\n\n2 * 3 < 4 & C#\n\n| a | b |\n| - | - |\n| 1 | 2 |"
    )
    assert shown == (
        "# 标题\n\n这是**重点**，见[页](https://a.org/)。\n\n- one\n  - two\n\n2 \\* 3 < 4 & C#\n\n"
        "```\na | b\n--+--\n1 | 2\n```"
    )


# ---- the bot ------------------------------------------------------------------------------------------------


async def test_an_answer_grows_in_one_stream_and_ends_it(server: WeComServer, sqlite_store: Store) -> None:
    engine = ScriptedEngine(WORDS, steps=20, step_s=0.05)
    async with wecom_bot.bot(server, engine, sqlite_store):
        await server.say("go on", group=True)
        await until(lambda: any("word39" in each for each in server.texts(GROUP)))
        await nothing_left(sqlite_store, "wecom")
    (message,) = server.messages[GROUP]
    assert message["updates"] >= 3
    assert message["finish"] is True
    assert set(server.calls) == {"aibot_respond_msg"}


async def test_each_stream_of_a_long_answer_is_ended(server: WeComServer, sqlite_store: Store) -> None:
    long = "\n\n".join(f"第{number}段：" + "长" * 900 for number in range(12))
    async with wecom_bot.bot(server, ScriptedEngine(long, steps=6, step_s=0.05), sqlite_store):
        await server.say("go on")
        await until(lambda: any("第11段" in each for each in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "wecom")
    assert len(server.messages[PRIVATE]) >= 3
    assert all(each["finish"] for each in server.messages[PRIVATE])
    assert letters("".join(server.texts(PRIVATE))) == letters(long)


async def test_a_question_that_can_not_be_replied_to_any_more_is_answered_by_a_message(
    server: WeComServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine(WORDS, steps=4, step_s=0.02)
    engine.goes_on.clear()
    async with wecom_bot.bot(server, engine, sqlite_store):
        await server.say("go on")
        await until(lambda: bool(engine.prompts))
        server.forget()
        engine.goes_on.set()
        await until(lambda: any("word39" in each for each in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "wecom")
    whole = [each for each in server.messages[PRIVATE] if each["kind"] == "markdown"]
    assert [each["text"] for each in whole] == [WORDS]


async def test_what_grows_for_longer_than_a_stream_may_is_sent_whole_at_its_end(
    server: WeComServer, sqlite_store: Store
) -> None:
    server.stream_s = 0.2
    engine = ScriptedEngine(WORDS, steps=20, step_s=0.05)
    async with wecom_bot.bot(server, engine, sqlite_store):
        await server.say("go on")
        await until(lambda: any("word39" in each for each in server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "wecom")
    begun, whole = server.messages[PRIVATE]
    assert (begun["kind"], whole["kind"], whole["text"]) == ("stream", "markdown", WORDS)


async def test_what_is_said_while_the_connection_is_lost_is_answered_after(
    server: WeComServer, sqlite_store: Store
) -> None:
    async with wecom_bot.bot(server, echoing(), sqlite_store):
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await server.disconnect()
        await server.say("two")
        await until(lambda: server.texts(PRIVATE) == ["answer to one", "answer to two"])
        await nothing_left(sqlite_store, "wecom")


async def test_a_connection_on_which_nobody_answers_is_opened_again(
    server: WeComServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as soon:
        soon.setattr(connection, "_BEAT_S", 0.05)
        soon.setattr(connection, "_ANSWER_S", 0.05)
        async with wecom_bot.bot(server, echoing(), sqlite_store) as bot:
            assert bot._connection is not None
            first = bot._connection._socket
            assert first is not None
            server.deaf = True
            await until(lambda: first.closed)
            soon.undo()
            server.deaf = False
            await server.say("one")
            await until(lambda: server.texts(PRIVATE) == ["answer to one"])
            await nothing_left(sqlite_store, "wecom")


async def test_what_can_not_be_stored_is_said(
    server: WeComServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(message: Message) -> None:
        raise StoreError("the disk is full")

    async with wecom_bot.bot(server, echoing(), sqlite_store) as bot:
        monkeypatch.setattr(bot._dialogue, "accept", fail)
        await server.say("one")
        await until(lambda: bool(server.texts(PRIVATE)))
    (message,) = server.messages[PRIVATE]
    assert message["finish"] is True
    assert "disk" not in message["text"]


async def test_a_message_that_comes_again_is_answered_once(server: WeComServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with wecom_bot.bot(server, engine, sqlite_store):
        number = await server.say("one")
        await until(lambda: bool(server.texts(PRIVATE)))
        await server.tell("aibot_msg_callback", server.said[number], "another")
        await server.say("two")
        await until(lambda: len(server.texts(PRIVATE)) == 2)
        await nothing_left(sqlite_store, "wecom")
    assert len(engine.prompts) == 2


async def test_events_and_nonsense_are_left_alone(server: WeComServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with wecom_bot.bot(server, engine, sqlite_store):
        for event in ("enter_chat", "template_card_event", "feedback_event", "unheard of"):
            body = {
                "msgid": "e",
                "msgtype": "event",
                "from": {"userid": PRIVATE},
                "event": {"eventtype": event},
            }
            await server.tell("aibot_event_callback", body)
        for nonsense in (None, [], "x", {"event": 5}, {"msgid": 5}, {"chattype": "single", "from": []}):
            await server.tell("aibot_event_callback", nonsense)
            await server.tell("aibot_msg_callback", nonsense)
        await server.tell("unheard of", {})
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "wecom")
    assert len(engine.prompts) == 1


async def test_a_wrong_secret_and_a_wrong_bot_are_said(server: WeComServer, sqlite_store: Store) -> None:
    for wrong in ({"token": SecretStr("another-secret")}, {"bot_id": "aibAnother"}):
        adapter = WeComAdapter(
            wecom_bot.settings_for(server, **wrong), make_dialogue(echoing(), sqlite_store)
        )
        with pytest.raises(PlatformRefused, match="Bot ID"):
            await adapter.start()
        await adapter.stop()
    assert all(well for well, _ in await WeComAdapter.examine(wecom_bot.settings_for(server)))


async def test_a_bot_that_another_has_displaced_waits_before_it_takes_over(
    server: WeComServer, sqlite_store: Store
) -> None:
    async with wecom_bot.bot(server, echoing(), sqlite_store) as bot:
        await server.say("one")
        await until(lambda: bool(server.texts(PRIVATE)))
        await nothing_left(sqlite_store, "wecom")
        await WeComAdapter.examine(wecom_bot.settings_for(server))
        assert bot._connection is not None
        await until(lambda: bot._connection is not None and bot._connection._pause_s > 0)
    assert server.displaced == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (45009, Flooded), (45033, Flooded), (-1, Unreachable), (60020, Closed), (48002, Closed), (81013, Gone),
        (846605, StreamGone), (846608, StreamGone), (42001, Unreachable), (40058, Refused), (0, Unreachable),
    ],
)  # fmt: skip
def test_refusals_mean_what_wecom_says(code: int, kind: type[NotWritten]) -> None:
    assert type(refused(code, "words")) is kind
    assert type(refused(99, "api freq out of limit")) is Flooded
    assert set(MEANINGS) & {846605, 846608, 42001} == set()
