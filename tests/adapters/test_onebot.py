"""QQ: who is spoken to, what comes along, what is refused; real WebSockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from adapters.onebot_bot import GROUP, USER, bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import lawful, nothing_left, until_async
from conftest import until
from glmbot.errors import StoreError
from glmbot.store.base import Store
from glmbot_onebot import session
from platforms.onebot_server import SELF, OneBotServer, codes

GROUP_CHAT, PRIVATE = f"g{GROUP}", str(USER)


@pytest.fixture
async def qq() -> AsyncGenerator[OneBotServer]:
    async with lawful(OneBotServer()) as server:
        yield server


async def answered(qq: OneBotServer, chat: str, words: str) -> None:
    await until(lambda: any(words in text for text in qq.texts(chat)))


async def test_in_a_group_it_answers_mentions_replies_keywords_and_commands_and_nobody_else(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    engine = echoing("to: ")
    async with bot(qq, engine, sqlite_store, settings={"keywords": ["小智"]}):
        await qq.say("to all", group=GROUP, at=["all"])
        await qq.say("to somebody", group=GROUP, at=[8])
        await qq.say("to nobody", group=GROUP)
        await qq.say("!roll", group=GROUP)
        await qq.say("/roll@otherbot", group=GROUP)
        await qq.say("mentioned", group=GROUP, at=[SELF])
        await qq.say("小智，你好", group=GROUP)
        await answered(qq, GROUP_CHAT, "to: 你好")
        (first, *_) = sorted(qq.messages[GROUP_CHAT])
        await qq.say("replied", group=GROUP, reply_to=first)
        await answered(qq, GROUP_CHAT, "replied")
        await qq.say("/help", group=GROUP)
        await answered(qq, GROUP_CHAT, "/new")
        await nothing_left(sqlite_store, "onebot")
    asked = [prompt.rpartition("Q:")[2].removesuffix("\nA:") for prompt in engine.prompts]
    assert [each.splitlines()[-1] for each in asked] == ["mentioned", "你好", "replied"]
    # Each answer says what it answers.
    assert all(parts[0]["type"] == "reply" for parts in qq.messages[GROUP_CHAT].values())


async def test_a_reply_to_somebody_else_with_a_mention_asks_about_those_words(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    engine = echoing("to: ")
    async with bot(qq, engine, sqlite_store):
        other = await qq.say("the sky is green", user=8, group=GROUP)
        await qq.say("is that so?", group=GROUP, reply_to=other, at=[SELF])
        await until(lambda: bool(engine.prompts))
        await qq.say("what then?", group=GROUP, reply_to=999_999, at=[SELF])
        await answered(qq, GROUP_CHAT, "what then?")
    assert "the sky is green" in engine.prompts[0]


@pytest.mark.parametrize("strings", [False, True])
async def test_what_was_forwarded_is_the_question_and_never_a_command(
    strings: bool, qq: OneBotServer, sqlite_store: Store
) -> None:
    qq.strings = strings
    said = [{"type": "text", "data": {"text": "/export"}}]
    qq.forwards["f1"] = [
        {"sender": {"nickname": "Ada", "user_id": 9}, "message": said},
        {"type": "node", "data": {"nickname": "Bob", "content": "the [CQ:face,id=1]end &amp; all"}},
    ]
    engine = echoing("to: ")
    async with bot(qq, engine, sqlite_store):
        await qq.say(parts=[{"type": "forward", "data": {"id": "f1"}}])
        await answered(qq, PRIVATE, "to: ")
    assert "Ada: /export\nBob: the end & all" in engine.prompts[0]
    assert qq.files == []


async def test_no_words_of_a_model_or_a_person_are_ever_a_code(qq: OneBotServer, sqlite_store: Store) -> None:
    words = "[CQ:at,qq=all] &#91;CQ:image,file=http://evil.example/a.png&#93; &amp;"
    qq.strings = True
    async with bot(qq, ScriptedEngine(words), sqlite_store):
        await qq.say(words)
        await answered(qq, PRIVATE, "evil.example")
        await nothing_left(sqlite_store, "onebot")
    ((part,),) = qq.messages[PRIVATE].values()
    assert part["type"] == "text"
    # Markdown's own escapes are read; whatever that makes stands in a text, in which nothing is a code.
    assert codes(part["data"]["text"]) == ["[CQ:at,qq=all]", "[CQ:image,file=http://evil.example/a.png]"]


async def test_what_can_not_be_read_is_named_and_gestures_in_a_group_are_nobodys_words(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    engine = echoing("to: ")
    async with bot(qq, engine, sqlite_store):
        for kind in ("record", "video", "file", "json"):
            await qq.say(parts=[{"type": kind, "data": {"file": "x"}}])
        await until(lambda: len(qq.texts(PRIVATE)) == 4)
        await qq.say(group=GROUP, parts=[{"type": "face", "data": {"id": "1"}}])
        await qq.say(group=GROUP, parts=[{"type": "image", "data": {"file": "x"}}])
        await qq.happen("notice", notice_type="notify", sub_type="poke", user_id=USER, target_id=SELF)
        await qq.happen("request", request_type="friend", user_id=USER, comment="hi", flag="1")
        await qq.say("last", group=GROUP, at=[SELF])
        await answered(qq, GROUP_CHAT, "to: last")
    assert len(qq.texts(GROUP_CHAT)) == 1
    assert not any("set_friend_add_request" in action for action, _ in qq.calls)


async def test_what_is_told_twice_is_answered_once(qq: OneBotServer, sqlite_store: Store) -> None:
    engine = echoing("to: ")
    async with bot(qq, engine, sqlite_store):
        first = await qq.say("hello")
        await qq.tell(qq.said[first])
        await answered(qq, PRIVATE, "to: hello")
        await qq.tell(qq.said[first])
        await qq.say("more")
        await answered(qq, PRIVATE, "to: more")
    assert [text for text in qq.texts(PRIVATE) if text == "to: hello"] == ["to: hello"]


async def test_a_person_and_a_group_with_one_number_are_two_chats(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    async with bot(qq, echoing("to: "), sqlite_store):
        await qq.say("in private", user=GROUP)
        await qq.say("in the group", user=GROUP, group=GROUP, at=[SELF])
        await answered(qq, str(GROUP), "to: in private")
        await answered(qq, GROUP_CHAT, "to: in the group")
    assert len(qq.texts(str(GROUP))) == len(qq.texts(GROUP_CHAT)) == 1


async def test_who_writes_by_way_of_a_group_is_answered_that_way(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    async with bot(qq, echoing("to: "), sqlite_store):
        number = await qq.say("hello", sub_type="group")
        qq.said[number]["sender"]["group_id"] = GROUP
        await qq.tell(qq.said[number] | {"message_id": number + 500})
        await until(lambda: len(qq.texts(PRIVATE)) == 2)
    sent = [params for action, params in qq.calls if action == "send_private_msg"]
    assert [params.get("group_id") for params in sent] == [None, GROUP]


async def test_it_shows_that_it_types_where_that_is_known(qq: OneBotServer, sqlite_store: Store) -> None:
    engine = ScriptedEngine("done", steps=3, step_s=0.1)
    async with bot(qq, engine, sqlite_store):
        await qq.say("hello")
        await answered(qq, PRIVATE, "done")
    assert qq.typing == [USER]


async def test_an_implementation_that_takes_no_files_is_sent_none(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    qq.app = "Lagrange.OneBot"
    async with bot(qq, echoing("to: "), sqlite_store):
        await qq.say("keep this")
        await answered(qq, PRIVATE, "to: keep this")
        await qq.say("/export")
        await answered(qq, PRIVATE, "can't be sent in this chat")
    assert qq.files == []
    assert qq.typing == []


async def test_a_call_that_is_never_answered_is_made_again_and_says_that_it_may_be_there_twice(
    qq: OneBotServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_ANSWER_S", 0.2)
    qq.mute_actions.add("send_private_msg")
    async with bot(qq, echoing("to: "), sqlite_store):
        await qq.say("hello")
        await answered(qq, PRIVATE, "to: hello")
        qq.mute_actions.clear()
        await nothing_left(sqlite_store, "onebot")
    first, second = qq.texts(PRIVATE)
    assert first == "to: hello"
    assert second.startswith("to: hello\n\n")


async def test_where_the_question_can_not_be_quoted_the_words_come_all_the_same(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    async with bot(qq, echoing("to: "), sqlite_store):
        number = await qq.say("hello", group=GROUP, at=[SELF])
        qq.said[number + 1] = qq.said.pop(number)
        await answered(qq, GROUP_CHAT, "to: hello")
    assert [part["type"] for parts in qq.messages[GROUP_CHAT].values() for part in parts] == ["text"]


async def test_who_is_muted_stops_trying_and_whose_question_can_not_be_stored_is_told(
    qq: OneBotServer, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot.delivery.requests._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("glmbot.delivery.requests._LONGEST_PAUSE_S", 0.02)
    async with bot(qq, echoing("to: "), sqlite_store) as adapter:
        qq.refusals["send_group_msg"] = (120, "发送失败")
        await qq.say("hello", group=GROUP, at=[SELF])
        await until(lambda: len([action for action, _ in qq.calls if action == "send_group_msg"]) == 6)
        await nothing_left(sqlite_store, "onebot")
        qq.refusals.clear()

        async def full(*_: Any, **__: Any) -> bool:
            raise StoreError("the disk is full")

        monkeypatch.setattr(adapter._dialogue._dialogue, "accept", full)  # pyright: ignore
        await qq.say("again")
        await until(lambda: bool(qq.texts(PRIVATE)))


async def test_a_question_that_is_recalled_while_it_waits_is_not_answered(
    qq: OneBotServer, sqlite_store: Store
) -> None:
    engine = echoing("to: ")
    engine.goes_on.clear()
    async with bot(qq, engine, sqlite_store) as adapter:
        await qq.say("first", group=GROUP, at=[SELF])
        await until(lambda: bool(engine.prompts))
        second = await qq.say("second", group=GROUP, at=[SELF])
        await until_async(lambda: sqlite_store.unfinished("onebot"), lambda left: len(left) == 2)
        await qq.recall(second)
        await qq.say("/whoami", group=GROUP)
        await until(lambda: bool(adapter._deliveries._taken_back))
        engine.goes_on.set()
        await answered(qq, GROUP_CHAT, "to: first")
        await answered(qq, GROUP_CHAT, "onebot:7")
        await nothing_left(sqlite_store, "onebot")
    assert not any("to: second" in text for text in qq.texts(GROUP_CHAT))


async def test_whatever_comes_the_connection_stays_and_the_next_question_is_answered(
    qq: OneBotServer, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    base = {"post_type": "message", "message_type": "group", "self_id": SELF, "user_id": 7, "group_id": 5}
    async with bot(qq, echoing("to: "), sqlite_store):
        for event in (
            {},
            {"post_type": 5},
            {"post_type": "message"},
            base | {"message_id": {}, "message": []},
            base | {"message_id": 1, "message": {"type": "reply", "data": {"id": "x" * 10}}, "sender": []},
            base | {"message_id": 2, "message": [{"type": "at", "data": 5}, 7]},
            base | {"message_id": 3, "user_id": 2**70, "message": "secret words"},
            base | {"message_id": 4, "message": "[CQ:at,qq=40404]" * 3000},
            {"post_type": "notice", "notice_type": "group_recall", "group_id": "x"},
            {"status": "ok", "echo": ["a"], "retcode": {}},
            {"post_type": "meta_event", "meta_event_type": "heartbeat", "interval": -1, "status": 7},
        ):
            await qq.tell(event)
        for socket in list(qq._sockets):
            await socket.send_str("[" * 100_000)
            await socket.send_str("null")
        await qq.say("hello")
        await answered(qq, PRIVATE, "to: hello")
        assert qq.connections == 1
    assert "secret words" not in caplog.text


async def test_a_flood_of_one_chat_holds_no_other(qq: OneBotServer, sqlite_store: Store) -> None:
    """More than QQ takes, in both: each waits for its own, and nothing is lost or doubled."""
    qq.burst, qq.seconds_per_message = 3, 0.1
    text = "\n\n".join(f"Paragraph {number}." for number in range(8))
    async with bot(qq, ScriptedEngine(text, steps=30, step_s=0.01), sqlite_store):
        qq.hold(PRIVATE, 1.0)
        await qq.say("held")
        await qq.say("free", user=8)
        await answered(qq, "8", "Paragraph 7.")
        assert qq.texts(PRIVATE) == []
        await answered(qq, PRIVATE, "Paragraph 7.")
        await nothing_left(sqlite_store, "onebot")
    for chat in (PRIVATE, "8"):
        assert "\n\n".join(qq.texts(chat)) == text
    assert qq.floods
    await asyncio.sleep(0)
