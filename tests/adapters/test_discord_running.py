"""What of the Discord adapter runs by itself: it never ends unseen, and keeps no more than it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters.discord_bot import USER, answered
from adapters.scripted import ScriptedEngine
from conftest import make_dialogue, until
from glmbot.delivery.recent import Recent
from glmbot.keys import ConversationKey
from glmbot.messages import Unfinished
from glmbot.store.base import Store
from glmbot_discord.adapter import DiscordAdapter, DiscordSettings
from platforms.discord_server import TOKEN, DiscordServer


async def test_what_feeds_the_platform_ends_its_run_visibly_and_begins_again_with_the_next(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    dialogue = make_dialogue(ScriptedEngine(), sqlite_store)
    adapter = DiscordAdapter(
        DiscordSettings(token=SecretStr(TOKEN), api_base_url=discord.url, gateway_url=discord.gateway_url),
        dialogue,
    )
    real = dialogue.assigned

    async def assigned(platform: str) -> AsyncGenerator[Unfinished, None]:
        raise LookupError("a row that can't be read")
        yield

    dialogue.assigned = assigned
    await adapter.start()
    adapter.resume()
    with pytest.raises(LookupError):
        await adapter.run()
    assert adapter._client.is_closed(), "nothing is heard that nobody answers"
    dialogue.assigned = real
    running = asyncio.create_task(adapter.run())
    await until(lambda: discord._sockets)
    adapter.resume()
    await discord.say("hello", direct=True)
    await answered(sqlite_store, 1, ConversationKey("discord", str(discord.direct_channel(USER))))
    await adapter.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@given(st.lists(st.integers(0, 30)), st.integers(1, 9))
def test_what_was_noted_last_is_kept_and_no_more(keys: list[int], most: int) -> None:
    recent = Recent[int, int](most)
    for number, key in enumerate(keys):
        recent.put(key, number)
    last = list(dict.fromkeys(reversed(keys)))[:most]
    assert len(recent) == len(last)
    newest = {key: number for number, key in enumerate(keys)}
    assert [recent.take(key) for key in last] == [newest[key] for key in last]
