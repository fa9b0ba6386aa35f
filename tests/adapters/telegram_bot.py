"""A whole Telegram bot for tests: the adapter with its real client, the real engine, a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import running, until_async
from conftest import make_dialogue
from glmbot.engine.base import Engine, TokenEngine
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from platforms.telegram_server import TOKEN, TelegramServer

USER = 7
PRIVATE = ConversationKey("telegram", str(USER))


def settings_for(server: TelegramServer, **changes: Any) -> TelegramSettings:
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "api_base_url": server.url,
        "edit_interval_s": 0.03,
        "group_edit_interval_s": 0.06,
        "poll_timeout_s": 5,
    }
    return TelegramSettings(**given | changes)


@asynccontextmanager
async def bot(
    server: TelegramServer, engine: Engine | TokenEngine, store: Store, **changes: Any
) -> AsyncGenerator[TelegramAdapter]:
    settings = changes.pop("settings", {})
    adapter = TelegramAdapter(settings_for(server, **settings), make_dialogue(engine, store, **changes))
    async with running(adapter):
        yield adapter


async def answered(server: TelegramServer, store: Store, turns: int) -> None:
    """So many turns are stored, and what they end in is on the screen."""
    await until_async(lambda: turns_of(store), lambda stored: len(stored) >= turns)
    await until_async(lambda: store.unfinished("telegram"), lambda left: not left)


async def turns_of(store: Store, conversation: ConversationKey = PRIVATE) -> Any:
    return await store.last_turns(conversation, 100)
