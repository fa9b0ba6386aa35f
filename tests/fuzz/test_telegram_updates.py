"""Whatever Telegram hands out, the bot confirms it, goes on, and shows nobody a traceback."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given

from adapters.telegram_bot import bot
from conftest import until
from fuzz.inputs import changed, fuzz
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.keys import UserKey
from glmbot.store.base import Store
from platforms.telegram_server import TelegramServer

PERSON = {"id": 7, "is_bot": False, "first_name": "Ann", "language_code": "en"}
PRIVATE = {"id": 7, "type": "private", "first_name": "Ann"}
GROUP = {"id": -5, "type": "supergroup", "title": "Friends", "is_forum": True}
TEXT: dict[str, Any] = {
    "message_id": 1,
    "date": 1_700_000_000,
    "from": PERSON,
    "chat": PRIVATE,
    "text": "Hello there",
}
IN_GROUP = {
    **TEXT,
    "chat": GROUP,
    "text": "@glm_test_bot hi",
    "entities": [{"type": "mention", "offset": 0, "length": 13}],
}
TEMPLATES: list[dict[str, Any]] = [
    {"message": TEXT},
    {"message": {**TEXT, "text": "/whoami now", "entities": [{"type": "bot_command", "offset": 0, "length": 7}]}},
    {"message": IN_GROUP},
    {"message": {**IN_GROUP, "message_thread_id": 3, "is_topic_message": True, "reply_to_message": {**TEXT, "chat": GROUP}}},
    {"message": {**TEXT, "reply_to_message": TEXT, "quote": {"text": "there", "position": 6}}},
    {"message": {**TEXT, "text": None, "caption": "look", "photo": [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]}},
    {"message": {**TEXT, "text": None, "voice": {"file_id": "a", "file_unique_id": "b", "duration": 1}}},
    {"edited_message": {**TEXT, "edit_date": 1_700_000_001}},
    {"message": {**TEXT, "text": None, "chat": {**GROUP, "type": "group"}, "migrate_to_chat_id": -1009}},
    {"message": {**TEXT, "text": None, "chat": {**GROUP, "id": -1009}, "migrate_from_chat_id": -5}},
    {"message": {**IN_GROUP, "from": {"id": 1087968824, "is_bot": True, "first_name": "Group"}, "sender_chat": GROUP}},
    {"callback_query": {"id": "9", "from": PERSON, "chat_instance": "1", "message": TEXT, "data": "retry:7"}},
    {
        "my_chat_member": {
            "chat": GROUP, "from": PERSON, "date": 1, "old_chat_member": {"status": "member", "user": PERSON},
            "new_chat_member": {"status": "kicked", "user": PERSON, "until_date": 0},
        }
    },
]  # fmt: skip


@pytest.fixture
async def telegram(engine: LocalEngine, sqlite_store: Store) -> AsyncGenerator[TelegramServer]:
    server = TelegramServer(seconds_per_message=0.0001, burst=1000)
    await server.start()
    access = Access(admins={UserKey("telegram", "7")}, open_platforms={"telegram"})
    sampling = Sampling(max_tokens=1, temperature=0)
    async with bot(server, engine, sqlite_store, sampling=sampling, access=access, pending_per_user=10_000):
        yield server
        before = len(server.texts(12345))
        await server.say("still there?", user=12345)
        await until(lambda: len(server.texts(12345)) > before)
    await server.stop()
    assert server.violations == []


@pytest.mark.timeout(3600)
@fuzz
@given(changed(TEMPLATES))
async def test_any_update_is_confirmed_and_the_bot_goes_on(
    telegram: TelegramServer, caplog: pytest.LogCaptureFixture, update: Any
) -> None:
    caplog.set_level(logging.WARNING)
    caplog.clear()
    await telegram.tell(update if isinstance(update, dict) else {"message": update})
    await until(lambda: telegram.unconfirmed == 0)
    said = [text for chat in list(telegram.messages) for text in telegram.texts(chat)]
    assert not any("Traceback" in text for text in said)
    assert not [
        record
        for record in caplog.records
        if record.exc_info or record.exc_text or record.levelno >= logging.CRITICAL
    ]
