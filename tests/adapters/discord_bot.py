"""A whole Discord bot for tests: the adapter with its real client, the real engine, a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from adapters.waiting import until_async
from conftest import make_dialogue, until
from glmbot.engine.base import Engine, TokenEngine
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from glmbot_discord.adapter import DiscordAdapter, DiscordSettings
from platforms.discord_server import BOT_ID, CHANNEL_ID, TOKEN, DiscordServer

USER = 7
IN_CHANNEL = ConversationKey("discord", str(CHANNEL_ID), str(USER))
MENTION = f"<@{BOT_ID}>"


@asynccontextmanager
async def bot(
    server: DiscordServer, engine: Engine | TokenEngine, store: Store, **changes: Any
) -> AsyncGenerator[DiscordAdapter]:
    """`settings` among the changes are the adapter's; all others are the dialogue's."""
    given: dict[str, Any] = {
        "token": SecretStr(TOKEN),
        "api_base_url": server.url,
        "gateway_url": server.gateway_url,
        "edit_interval_s": 0.06,
    }
    settings = DiscordSettings(**given | changes.pop("settings", {}))
    adapter = DiscordAdapter(settings, make_dialogue(engine, store, **changes))
    await adapter.start()
    # discord.py waits so long for one more server before it says that it is ready.
    adapter._client._connection.guild_ready_timeout = 0.1  # pyright: ignore[reportAttributeAccessIssue]
    running = asyncio.create_task(adapter.run())
    connected = len(server.identified)
    await until(lambda: len(server.identified) > connected)
    try:
        yield adapter
    finally:
        await adapter.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def answered(store: Store, turns: int, conversation: ConversationKey = IN_CHANNEL) -> None:
    await until_async(lambda: store.last_turns(conversation, 100), lambda stored: len(stored) >= turns)
    await until_async(lambda: store.unfinished("discord"), lambda left: not left)
