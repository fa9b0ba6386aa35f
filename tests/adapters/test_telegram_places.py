"""Where something is said on Telegram and in whose name, and what follows: topics, comments, chats that speak."""

from __future__ import annotations

import time
from typing import Any

import pytest

from adapters.scripted import ScriptedEngine
from adapters.telegram_bot import bot, turns_of
from adapters.waiting import until_async
from conftest import until
from glmbot.dialogue.access import Access
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Store
from platforms.telegram_server import Refusal, TelegramServer

GROUP, USER, ADMIN = -1001, 7, 1
CLOSED = Access(admins={UserKey("telegram", str(ADMIN))}, users={UserKey("telegram", str(USER))})
IN_NAME_OF_GROUP = {
    "from": {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"},
    "sender_chat": {"id": GROUP, "type": "supergroup", "title": "Friends"},
}
LONG = "\n\n".join(f"Paragraph {number} " + "of many words. " * 40 for number in range(15))


async def say(server: TelegramServer, text: str, **fields: Any) -> int:
    """Somebody writes in the group. Returns the message's id."""
    said: dict[str, Any] = {
        "message_id": server._new_message_id(),
        "date": int(time.time()),
        "from": {"id": USER, "is_bot": False, "first_name": "Ann", "language_code": "en"},
        "chat": {"id": GROUP, "type": "supergroup", "title": "Friends"},
        "text": text,
        "entities": [
            {"type": "mention", "offset": text.index("@"), "length": 13}
            for _ in range("@glm_test_bot" in text)
        ],
    } | fields
    await server.tell({"message": said})
    return int(said["message_id"])


async def silence(server: TelegramServer, store: Store) -> None:
    """All that was said is known to the bot, and all that is to be answered has been."""
    await until(lambda: server.unconfirmed == 0)
    await until_async(lambda: store.unfinished("telegram"), lambda left: not left)


# ---- in the name of a chat --------------------------------------------------------------------------------------


async def test_anonymous_administrators_share_a_conversation_where_their_group_is_let_in(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store, access=CLOSED):
        await sqlite_store.set_setting(ChatKey("telegram", str(GROUP)), "access", "user")
        for question in ("@glm_test_bot one", "/ask two"):
            await say(telegram, question, **IN_NAME_OF_GROUP)
            await silence(telegram, sqlite_store)
        shared = ConversationKey("telegram", str(GROUP), str(GROUP))
        assert [turn.question for turn in await turns_of(sqlite_store, shared)] == ["one", "two"]
        await say(telegram, "/mode all", **IN_NAME_OF_GROUP)
        await until(lambda: len(telegram.texts(GROUP)) == 3)
        assert "can't see who you are" in telegram.texts(GROUP)[-1]
        await silence(telegram, sqlite_store)
        assert await sqlite_store.settings(ChatKey("telegram", str(GROUP))) == {"access": "user"}


async def test_who_speaks_in_a_chats_name_is_told_why_nothing_is_answered(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    channel = {"from": {"id": 136817688, "is_bot": True, "first_name": "Channel"},
               "sender_chat": {"id": -1009, "type": "channel", "title": "News"}}  # fmt: skip
    async with bot(telegram, ScriptedEngine(), sqlite_store, access=CLOSED):
        for number, name in enumerate((IN_NAME_OF_GROUP, channel), 1):
            await say(telegram, "just talking", **name)
            await say(telegram, "@glm_test_bot hello", **name)
            await silence(telegram, sqlite_store)
            assert len(telegram.texts(GROUP)) == number
            assert "/allow here" in telegram.texts(GROUP)[-1]
        # A stranger under their own name is left alone, as ever.
        await say(
            telegram, "@glm_test_bot hello", **{"from": {"id": 8, "is_bot": False, "first_name": "Eve"}}
        )
        await silence(telegram, sqlite_store)
        assert len(telegram.texts(GROUP)) == 2


async def test_the_buttons_of_an_answer_to_a_chat_are_its_administrators(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    telegram.administrators[GROUP] = {ADMIN}
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store):
        await say(telegram, "@glm_test_bot one", **IN_NAME_OF_GROUP)
        await silence(telegram, sqlite_store)
        (answer,) = telegram.messages[GROUP]
        refused = await telegram.press(answer, "retry", user=8, chat=GROUP)
        await until(lambda: telegram.callbacks.get(refused))
        assert "somebody else" in str(telegram.callbacks[refused])
        assert len(engine.prompts) == 1
        pressed = await telegram.press(answer, "retry", user=ADMIN, chat=GROUP)
        await until(lambda: pressed in telegram.callbacks and len(engine.prompts) == 2)
        await silence(telegram, sqlite_store)
        assert len(telegram.messages[GROUP]) == 1


# ---- threads and topics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True])
async def test_every_piece_of_an_answer_to_a_comment_stands_in_its_thread(
    telegram: TelegramServer, sqlite_store: Store, deleted: bool
) -> None:
    """Nothing but what a message answers puts it there. Where the question is gone, that is the post."""
    post = 50
    async with bot(telegram, ScriptedEngine(LONG), sqlite_store):
        if deleted:
            words = "Bad Request: message to be replied not found"
            telegram.refusals = [Refusal("sendMessage", 400, words, times=1, having="reply_parameters")]
        asked = await say(telegram, "@glm_test_bot tell me", message_thread_id=post)
        await silence(telegram, sqlite_store)
        assert len(telegram.messages[GROUP]) >= 3
        assert {message.get("replies_to") for message in telegram.messages[GROUP].values()} == {
            post if deleted else asked
        }
        assert [
            turn.question
            for turn in await turns_of(sqlite_store, ConversationKey("telegram", str(GROUP), str(USER)))
        ]


async def test_what_a_button_adds_to_an_answer_stands_beside_it(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine("short")
    async with bot(telegram, engine, sqlite_store):
        await say(telegram, "@glm_test_bot tell me", message_thread_id=50)
        await silence(telegram, sqlite_store)
        (answer,) = telegram.messages[GROUP]
        engine.answer = LONG
        await telegram.press(answer, "retry", chat=GROUP, inaccessible=True)
        await until(lambda: len(telegram.messages[GROUP]) >= 3)
        await silence(telegram, sqlite_store)
        added = [message for number, message in telegram.messages[GROUP].items() if number != answer]
        assert {message["replies_to"] for message in added} == {answer}


@pytest.mark.parametrize("inaccessible", [False, True])
async def test_buttons_of_old_answers_know_their_topic(
    telegram: TelegramServer, sqlite_store: Store, inaccessible: bool
) -> None:
    telegram.chats_with_topics.add(GROUP)
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store):
        for topic in (5, 6):
            await telegram.say(f"@glm_test_bot in topic {topic}", chat=GROUP, thread=topic)
            await silence(telegram, sqlite_store)
        answer = min(telegram.messages[GROUP])
        engine.answer = "another answer"
        await telegram.press(answer, "retry", chat=GROUP, inaccessible=inaccessible)
        await until(lambda: telegram.messages[GROUP][answer]["text"].startswith("another"))
        await silence(telegram, sqlite_store)
        turns = await turns_of(sqlite_store, ConversationKey("telegram", str(GROUP), str(USER), "5"))
        assert (turns[-1].question, turns[-1].answer) == ("in topic 5", "another answer")
        engine.goes_on.clear()
        await telegram.press(answer, "retry", chat=GROUP, inaccessible=inaccessible)
        await until(lambda: telegram.buttons(GROUP, answer) == ["stop"])
        query = await telegram.press(answer, "stop", chat=GROUP, inaccessible=inaccessible)
        await until(lambda: telegram.callbacks.get(query) == "Stopped.")
        await silence(telegram, sqlite_store)


async def test_a_button_of_an_earlier_release_says_no_topic_and_its_message_does(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    telegram.chats_with_topics.add(GROUP)
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store):
        await telegram.say("@glm_test_bot hello", chat=GROUP, thread=5)
        await silence(telegram, sqlite_store)
        (message,) = telegram.messages[GROUP].values()
        for row in message["reply_markup"]["inline_keyboard"]:
            for button in row:
                button["callback_data"] = button["callback_data"].rpartition(":")[0]
        await telegram.press(message["message_id"], "retry", chat=GROUP)
        await until(lambda: len(engine.prompts) == 2)
        await silence(telegram, sqlite_store)


async def test_a_button_whose_answer_is_not_kept_any_more_says_so_beside_it(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    async with bot(telegram, ScriptedEngine(), sqlite_store):
        asked = await say(telegram, "@glm_test_bot hello")
        await silence(telegram, sqlite_store)
        key = ConversationKey("telegram", str(GROUP), str(USER))
        turn = await sqlite_store.turn_of(key, str(asked))
        assert turn is not None
        await sqlite_store.remove_turn(key, turn.id)
        (answer,) = telegram.messages[GROUP]
        await telegram.press(answer, "retry", chat=GROUP, inaccessible=True)
        await until(lambda: len(telegram.texts(GROUP)) == 2)
        await silence(telegram, sqlite_store)
        assert telegram.texts(GROUP) == ["ok", "That answer can't be found any more."]
        assert telegram.messages[GROUP][max(telegram.messages[GROUP])]["replies_to"] == answer


# ---- what is said to a mention that asks nothing ----------------------------------------------------------------


async def test_a_mention_that_asks_nothing_gets_one_line_and_one_that_quotes_an_answer(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store):
        await say(telegram, "@glm_test_bot")
        await silence(telegram, sqlite_store)
        (hint,) = telegram.texts(GROUP)
        assert "after my name" in hint
        (answer,) = telegram.messages[GROUP]
        await say(telegram, "@glm_test_bot", reply_to_message=telegram.messages[GROUP][answer])
        await silence(telegram, sqlite_store)
        assert telegram.texts(GROUP) == [hint, hint]
        theirs = {"message_id": 3, "date": 1, "text": "what is blue?", "from": {"id": 8, "is_bot": False, "first_name": "B"},
                  "chat": {"id": GROUP, "type": "supergroup", "title": "Friends"}}  # fmt: skip
        await say(telegram, "@glm_test_bot", reply_to_message=theirs)
        await silence(telegram, sqlite_store)
        assert engine.prompts[-1] == "Q:what is blue?\nA:"
        await say(telegram, "@glm_test_bot /8ball")
        await silence(telegram, sqlite_store)
        assert "/8ball" in telegram.texts(GROUP)[-1]
        assert "/help" in telegram.texts(GROUP)[-1]
        assert len(engine.prompts) == 1


async def test_what_is_forwarded_in_private_is_answered_and_stickers_get_a_line(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    private = {"chat": {"id": USER, "type": "private", "first_name": "Ann"}}
    origin = {"type": "hidden_user", "date": 1, "sender_user_name": "Bob"}
    sticker = {"file_id": "a", "file_unique_id": "b", "type": "regular", "width": 1, "height": 1,
               "is_animated": False, "is_video": False}  # fmt: skip
    engine = ScriptedEngine()
    async with bot(telegram, engine, sqlite_store):
        await say(telegram, "/forget yes", forward_origin=origin, **private)
        await silence(telegram, sqlite_store)
        assert engine.prompts == ["Q:Bob:\n/forget yes\nA:"]
        await say(telegram, "", sticker=sticker, **private)
        await silence(telegram, sqlite_store)
        assert telegram.texts(USER) == ["ok", "I can only read text for now."]
        await say(telegram, "/8ball", **private)
        await silence(telegram, sqlite_store)
        assert "/help" in telegram.texts(USER)[-1]
