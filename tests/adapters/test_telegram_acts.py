"""Albums, pasted texts that the app cut, forwards, live locations and edits, as Telegram tells of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from adapters.scripted import ScriptedEngine
from adapters.telegram_bot import PRIVATE, USER, bot, turns_of
from adapters.waiting import until_async
from conftest import free_port, until
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.base import Store
from platforms.telegram_server import TelegramServer, _entities, _person

GROUP = -100
IN_GROUP = ConversationKey("telegram", str(GROUP), str(USER))
PHOTO = [{"file_id": "photo", "file_unique_id": "p", "width": 90, "height": 90, "file_size": 1000}]
ORIGIN = {"type": "hidden_user", "sender_user_name": "Somebody", "date": 1}


def message(
    telegram: TelegramServer, text: str = "", *, chat: int = USER, user: int = USER, **fields: Any
) -> Any:
    made: dict[str, Any] = {
        "message_id": telegram._new_message_id(),
        "date": int(time.time()),
        "from": _person(user, "en"),
        "chat": telegram._chat(chat, private=chat > 0),
        **fields,
    }
    if text:
        captioned = "photo" in fields
        made["caption" if captioned else "text"] = text
        if entities := _entities(text):
            made["caption_entities" if captioned else "entities"] = entities
    return made


async def tell(telegram: TelegramServer, *messages: Any, edited: bool = False) -> None:
    for each in messages:
        await telegram.tell({"edited_message" if edited else "message": each})


async def settled(telegram: TelegramServer, store: Store) -> None:
    """All that was told is stored, and answered."""
    await until(lambda: not telegram.unconfirmed)
    await until_async(lambda: store.unfinished("telegram"), lambda left: not left)


async def questions(store: Store, where: ConversationKey = PRIVATE) -> list[str]:
    return [turn.question for turn in await turns_of(store, where)]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine("an answer")


@pytest.mark.parametrize("chat", [USER, GROUP])
@pytest.mark.parametrize("captioned", [0, 1, 2, None])
async def test_an_album_is_one_question(
    telegram: TelegramServer, engine: Any, sqlite_store: Store, chat: int, captioned: int | None
) -> None:
    called = "@glm_test_bot " if chat == GROUP else ""
    async with bot(telegram, engine, sqlite_store):
        album = [
            message(
                telegram, f"{called}what is this?" if number == captioned else "", chat=chat,
                photo=PHOTO, media_group_id="1234567",
            )
            for number in range(3)
        ]  # fmt: skip
        await tell(telegram, *album)
        await settled(telegram, sqlite_store)
        if captioned is not None:
            assert await questions(sqlite_store, PRIVATE if chat > 0 else IN_GROUP) == ["what is this?"]
        assert len(telegram.texts(chat)) == (1 if captioned is not None or chat > 0 else 0)
        if captioned is None:
            return
        # The caption of another picture, with none before or as it was, says nothing new; this one's does.
        await tell(telegram, album[(captioned + 1) % 3], album[captioned], edited=True)
        await settled(telegram, sqlite_store)
        assert len(engine.prompts) == 1
        await tell(telegram, {**album[captioned], "caption": "what is that?"}, edited=True)
        await settled(telegram, sqlite_store)
        assert await questions(sqlite_store, PRIVATE if chat > 0 else IN_GROUP) == ["what is that?"]
        assert len(telegram.messages[chat]) == 1


LINES = "\n".join(f"{number}. a line of a long text that somebody pastes" for number in range(400))


def pieces_of(text: str, limit: int = 4096) -> list[str]:
    """As iOS cuts it: at the last space before the limit, and trimmed."""
    pieces: list[str] = []
    while len(text) > limit:
        end = max(text.rfind(" ", 0, limit), text.rfind("\n", 0, limit)) + 1 or limit
        pieces.append(text[:end].strip())
        text = text[end:]
    return [*pieces, text.strip()]


@pytest.mark.parametrize("begin", ["", "/ask ", "@glm_test_bot ", "/ask@glm_test_bot "])
@pytest.mark.parametrize("batches", [1, 2])
async def test_a_pasted_text_is_one_question_however_many_messages_it_takes(
    telegram: TelegramServer, engine: Any, sqlite_store: Store, begin: str, batches: int
) -> None:
    chat = GROUP if begin else USER
    pieces = pieces_of(f"{begin}Summarise this:\n{LINES}")
    assert len(pieces) > 4
    async with bot(telegram, engine, sqlite_store):
        told = [message(telegram, piece, chat=chat) for piece in pieces]
        await tell(telegram, *told[:2])
        if batches == 2:
            await until(lambda: not telegram.unconfirmed)
        await tell(telegram, *told[2:])
        await settled(telegram, sqlite_store)
        (question,) = await questions(sqlite_store, PRIVATE if chat > 0 else IN_GROUP)
        assert question.split() == f"Summarise this:\n{LINES}".split()
        assert len(telegram.messages[chat]) == 1
        # A later piece is edited; in a group it still mentions nobody.
        await tell(telegram, {**told[3], "text": "Something else."}, edited=True)
        await settled(telegram, sqlite_store)
        (question,) = await questions(sqlite_store, PRIVATE if chat > 0 else IN_GROUP)
        expected = [*pieces[:3], "Something else.", *pieces[4:]]
        assert question.split() == " ".join(expected).removeprefix(begin).split()
        assert len(telegram.messages[chat]) == 1


async def test_a_pasted_text_comes_by_webhook_as_well(
    telegram: TelegramServer, engine: Any, sqlite_store: Store
) -> None:
    port = free_port()
    settings = {"webhook_url": f"http://127.0.0.1:{port}/hook", "webhook_port": port}
    async with bot(telegram, engine, sqlite_store, settings=settings):
        for piece in pieces_of(LINES):
            await tell(telegram, message(telegram, piece))
            await until(lambda: not telegram.unconfirmed)
        await settled(telegram, sqlite_store)
        (question,) = await questions(sqlite_store)
        assert question.split() == LINES.split()


async def test_a_command_that_was_cut_is_one_command(
    telegram: TelegramServer, engine: Any, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await tell(telegram, *(message(telegram, piece) for piece in pieces_of(f"/prompt {LINES}")))
        await settled(telegram, sqlite_store)
        (text,) = telegram.texts(USER)
        assert "too long" in text
        assert engine.prompts == []


@pytest.mark.parametrize("comment", ["what do they want?", ""])
@pytest.mark.parametrize("chat", [USER, GROUP])
async def test_what_is_forwarded_at_once_is_one_question_with_its_comment(
    telegram: TelegramServer, engine: Any, sqlite_store: Store, comment: str, chat: int
) -> None:
    called = "@glm_test_bot " if chat == GROUP else ""
    async with bot(telegram, engine, sqlite_store):
        told = [message(telegram, called + comment, chat=chat)] if comment else []
        told += [
            message(telegram, f"letter {number}", chat=chat, forward_origin=ORIGIN) for number in (1, 2, 3)
        ]
        for each in told:
            await tell(telegram, each)
            await until(lambda: not telegram.unconfirmed)
        await settled(telegram, sqlite_store)
        found = await questions(sqlite_store, PRIVATE if chat > 0 else IN_GROUP)
        if chat == GROUP and not comment:
            assert found == []
            return
        letters = [f"Somebody:\nletter {number}" for number in (1, 2, 3)]
        assert found == ["\n\n".join(filter(None, [comment, *letters]))]
        assert len(telegram.messages[chat]) == 1


@pytest.mark.parametrize("chat", [USER, GROUP])
async def test_a_live_location_is_not_answered_with_each_step(
    telegram: TelegramServer, engine: Any, sqlite_store: Store, chat: int
) -> None:
    async with bot(telegram, engine, sqlite_store):
        place = {"latitude": 1.0, "longitude": 2.0, "live_period": 900}
        live = message(telegram, chat=chat, location=place)
        await tell(telegram, live)
        for step in range(5):
            await tell(telegram, {**live, "location": {**place, "latitude": step + 0.5}}, edited=True)
        await settled(telegram, sqlite_store)
        await tell(telegram, {**live, "location": {"latitude": 9.0, "longitude": 2.0}}, edited=True)
        await settled(telegram, sqlite_store)
        assert len(telegram.texts(chat)) == (1 if chat == USER else 0)


async def test_an_edit_of_what_was_never_answered_asks_where_it_turns_to_the_bot(
    telegram: TelegramServer, engine: Any, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        of_before = message(telegram, "asked before the bot came")
        await tell(telegram, of_before, edited=True)
        chatter = message(telegram, "what is blue?", chat=GROUP)
        await tell(telegram, chatter)
        await tell(telegram, {**chatter, "text": "what is red?"}, edited=True)
        await settled(telegram, sqlite_store)
        assert await questions(sqlite_store) == ["asked before the bot came"]
        assert telegram.texts(GROUP) == []
        call = "@glm_test_bot what is red?"
        await tell(telegram, {**chatter, "text": call, "entities": _entities(call)}, edited=True)
        await settled(telegram, sqlite_store)
        assert await questions(sqlite_store, IN_GROUP) == ["what is red?"]
        # The mention may go again: it is a question of the bot's by now.
        await tell(telegram, {**chatter, "text": "what is green?"}, edited=True)
        await settled(telegram, sqlite_store)
        assert await questions(sqlite_store, IN_GROUP) == ["what is green?"]
        assert len(telegram.messages[GROUP]) == 1


@pytest.mark.parametrize("steps", [0, 1])
async def test_nothing_is_left_of_a_question_that_is_edited_at_once(
    telegram: TelegramServer, engine: Any, sqlite_store: Store, steps: int
) -> None:
    engine.answer = lambda prompt: "old words" if "blue" in prompt else "new words"
    engine.goes_on.clear()
    async with bot(telegram, engine, sqlite_store):
        asked = message(telegram, "what is blue?")
        await tell(telegram, asked)
        await until(lambda: len(engine.prompts) >= steps and (not steps or bool(telegram.texts(USER))))
        await tell(telegram, {**asked, "text": "what is red?"}, edited=True)
        await until(lambda: "red" in "".join(engine.prompts))
        engine.goes_on.set()
        await settled(telegram, sqlite_store)
        assert telegram.texts(USER) == ["new words"]
        assert len(telegram.messages[USER]) == 1
        assert await questions(sqlite_store) == ["what is red?"]
        exported = [
            turn
            async for page in sqlite_store.export_pages(UserKey("telegram", str(USER)))
            for turn in page.turns
        ]
        assert len(exported) == 1
        assert not any("Stopped" in text for texts in telegram.edits.values() for text in texts)


async def test_two_short_messages_are_two_questions(
    telegram: TelegramServer, engine: Any, sqlite_store: Store
) -> None:
    async with bot(telegram, engine, sqlite_store):
        await tell(telegram, message(telegram, "one"), message(telegram, "two"))
        await settled(telegram, sqlite_store)
        assert await questions(sqlite_store) == ["one", "two"]
        assert len(telegram.messages[USER]) == 2


@pytest.mark.parametrize("number", [None, "", 9])
async def test_a_press_without_an_id_is_left_out_and_nobody_waits(
    sqlite_store: Store, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture, number: object
) -> None:
    telegram = TelegramServer(seconds_per_message=0.001, burst=100)
    await telegram.start()
    async with bot(telegram, engine, sqlite_store):
        pressed = {"id": number, "from": _person(USER, "en"), "chat_instance": "1", "data": f"retry:{USER}"}
        await telegram.tell({"callback_query": {**pressed, "message": message(telegram, "hello")}})
        await telegram.say("still there?")
        await until(lambda: "an answer" in telegram.texts(USER))
    assert telegram.callbacks == {}
    assert "an update that could not be read is left out (ValueError)" in caplog.text
    await telegram.stop()
    assert telegram.violations == []
