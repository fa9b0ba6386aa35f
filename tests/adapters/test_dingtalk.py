"""DingTalk: what comes in, what is refused, how cards grow, and what an answer may never do there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters import dingtalk_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, nothing_left
from conftest import make_dialogue, until
from glmbot.errors import PlatformRefused
from glmbot.keys import ConversationKey
from glmbot.messages import Addressed, ChatKind
from glmbot.store.base import Store
from glmbot_dingtalk.adapter import DingTalkAdapter
from glmbot_dingtalk.normalize import button_id, from_callback, from_message
from glmbot_dingtalk.render import render
from platforms.dingtalk_server import GROUP, DingTalkServer, staff


@pytest.fixture
async def server() -> AsyncGenerator[DingTalkServer]:
    async with lawful(DingTalkServer(requests_per_second=1000)) as server:
        yield server


def said(**more: Any) -> dict[str, Any]:
    return {
        "conversationId": GROUP, "conversationType": "2", "msgId": "msg1", "senderStaffId": "s1", "senderNick": "ann",
        "msgtype": "text", "text": {"content": " hello "}, "isInAtList": True, "createAt": 1_700_000_000_000, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words", "media", "addressed"),
    [
        (said(), "hello", "", Addressed.BY_MENTION),
        (said(text={"content": " /new"}), "/new", "", Addressed.BY_COMMAND),
        (said(isInAtList=False), "hello", "", Addressed.NOT),
        (said(conversationType="1"), "hello", "", Addressed.DIRECTLY),
        (said(msgtype="audio", content={"recognition": "spoken"}), "spoken", "", Addressed.BY_MENTION),
        (said(msgtype="picture", content={"downloadCode": "d"}), "", "photo", Addressed.BY_MENTION),
        (said(msgtype="richText", content={"richText": [{"text": "see"}, {"type": "picture"}]}), "see", "photo",
         Addressed.BY_MENTION),
    ],
)  # fmt: skip
def test_what_is_said_and_to_whom(data: dict[str, Any], words: str, media: str, addressed: Addressed) -> None:
    message = from_message(data)
    assert message is not None
    assert (message.text, message.media, message.addressed) == (words, media, addressed)


def test_a_reply_brings_the_words_that_it_is_about() -> None:
    message = from_message(said(text={"content": "what", "repliedMsg": {"content": {"text": "old words"}}}))
    assert message is not None
    assert message.quoted == "old words"


def test_people_of_other_companies_are_answered_in_groups_alone() -> None:
    stranger = {"senderStaffId": None, "senderId": "$:LWCP_v1:$abc=="}
    message = from_message(said(**stranger))
    assert message is not None
    assert message.conversation == ConversationKey("dingtalk", GROUP, "$:LWCP_v1:$abc==")
    assert from_message(said(conversationType="1", **stranger)) is None


@pytest.mark.parametrize(("chat", "kind"), [("", ChatKind.PRIVATE), (GROUP, ChatKind.GROUP)])
def test_a_button_says_whose_it_is_and_where(chat: str, kind: ChatKind) -> None:
    content = {"cardPrivateData": {"actionIds": [button_id("retry", chat, "s1")]}}
    press = from_callback({"outTrackId": "card1", "userId": "s2", "content": json.dumps(content)}, "frame1")
    assert press is not None
    assert (press.asker, press.message.user.id, press.message.chat_kind) == ("s1", "s2", kind)
    assert press.message.conversation.chat == (chat or "s1")


_VALUES = st.sampled_from(
    [None, True, 7, "", "\ud800", "{", '{"cardPrivateData": {"actionIds": [5]}}', "1", "2", "text", "richText", [],
     [{}], {}, {"content": 5}, {"richText": [5, {}]}, "s1"]
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(["conversationId", "conversationType", "msgId", "senderStaffId", "senderId", "msgtype", "text",
                     "content", "createAt", "isInAtList", "outTrackId", "userId"]),
    _VALUES,
    max_size=10,
)  # fmt: skip


@settings(max_examples=60)
@given(_FIELDS)
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    for reads in (lambda: from_message(said(**fields)), lambda: from_callback(fields, "f1")):
        with suppress(ValueError, TypeError, AttributeError):
            reads()


@pytest.mark.parametrize(
    "said_by_the_model",
    [
        "[touch](dtmd://dingtalkclient/sendMessage?content=yes)",
        "dtmd://dingtalkclient/sendMessage?content=yes",
        "`dtmd://dingtalkclient/sendMessage?content=yes`",
        "<a href='dtmd://dingtalkclient/sendMessage?content=yes'>x</a>",
        "```\n<font color=red>x</font> dingtalk://dingtalkclient/page\n```",
        "![p](dtmd://x)",
    ],
)
def test_nothing_that_the_model_says_acts_for_a_reader(said_by_the_model: str) -> None:
    shown = render(said_by_the_model)
    assert re.search(r"(?:dtmd|dingtalk):|<(?!\u200b)[A-Za-z/!]", shown) is None
    assert shown


async def test_an_answer_grows_in_one_card_that_streams_and_ends(
    server: DingTalkServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine(" ".join(f"word{number}" for number in range(40)), steps=20, step_s=0.05)
    async with dingtalk_bot.bot(server, engine, sqlite_store):
        await server.say("go on", group=True)
        await until(lambda: any("word39" in each for each in server.texts(GROUP)))
        await nothing_left(sqlite_store, "dingtalk")
        assert server.echoes == [{"opaque": "x"}]
    (card,) = server.cards.values()
    assert card["data"]["flowStatus"] == "3"
    assert len([path for _, path in server.calls if path == "/v1.0/card/streaming"]) >= 3


async def test_an_event_that_comes_again_is_answered_once_also_over_a_new_connection(
    server: DingTalkServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with dingtalk_bot.bot(server, engine, sqlite_store):
        number = await server.say("one")
        await until(lambda: server.texts(staff(7)) == ["answer to one"])
        await server.disconnect()
        await server.tell("/v1.0/im/bot/messages/get", server.said[number])
        server.end_token()
        await server.say("two")
        await until(lambda: len(server.texts(staff(7))) == 2)
        await nothing_left(sqlite_store, "dingtalk")
    assert len(engine.prompts) == 2
    assert server.tokens == 2


async def test_a_card_that_does_not_come_into_its_chat_is_no_answer(
    server: DingTalkServer, sqlite_store: Store
) -> None:
    async with dingtalk_bot.bot(server, echoing(), sqlite_store):
        server.undelivered = 1
        await server.say("one")
        await until(lambda: server.texts(staff(7)) == ["answer to one"])
        await nothing_left(sqlite_store, "dingtalk")


async def test_somebody_elses_button_does_nothing(server: DingTalkServer, sqlite_store: Store) -> None:
    engine = echoing()
    async with dingtalk_bot.bot(server, engine, sqlite_store):
        await server.say("why", group=True)
        await until(lambda: bool(server.texts(GROUP)))
        await nothing_left(sqlite_store, "dingtalk")
        (card,) = server.cards
        await server.press(card, "retry", user=8)
        await server.say("how", group=True)
        await until(lambda: len(server.texts(GROUP)) == 2)
        await nothing_left(sqlite_store, "dingtalk")
    assert len(engine.prompts) == 2


async def test_a_wrong_secret_is_said(server: DingTalkServer, sqlite_store: Store) -> None:
    wrong = dingtalk_bot.settings_for(server, token=SecretStr("another"))
    adapter = DingTalkAdapter(wrong, make_dialogue(echoing(), sqlite_store))
    with pytest.raises(PlatformRefused, match="Client Secret"):
        await adapter.start()
    await adapter.stop()
    with pytest.raises(PlatformRefused, match="client_id"):
        DingTalkAdapter.check(dingtalk_bot.settings_for(server, client_id=""), None)
    assert all(well for well, _ in await DingTalkAdapter.examine(dingtalk_bot.settings_for(server)))
