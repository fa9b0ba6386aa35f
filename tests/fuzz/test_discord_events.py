"""Whatever Discord's gateway says, the bot stays connected, goes on, and shows nobody a traceback."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.discord_bot import MENTION, bot
from conftest import until
from fuzz.inputs import changed, fuzz
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot_discord.adapter import DiscordAdapter
from platforms.discord_server import BOT_ID, CHANNEL_ID, GUILD_ID, DiscordServer

MADE = DiscordServer()
IN_CHANNEL = MADE.spoken(1001, CHANNEL_ID, 7, f"{MENTION} hello there", direct=False)
DIRECT = MADE.spoken(1002, 8, 8, "hello", direct=True)
SHOWN = MADE.spoken(1003, CHANNEL_ID, BOT_ID, "an answer", direct=False)
FILE = {
    "id": "5",
    "filename": "a.png",
    "size": 9,
    "url": "http://x/a.png",
    "proxy_url": "http://x/a.png",
    "content_type": "image/png",
}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("MESSAGE_CREATE", IN_CHANNEL),
    ("MESSAGE_CREATE", DIRECT),
    ("MESSAGE_CREATE", {**IN_CHANNEL, "type": 19, "message_reference": {"message_id": "1"}, "referenced_message": SHOWN}),
    ("MESSAGE_CREATE", {**DIRECT, "content": "", "attachments": [FILE]}),
    ("MESSAGE_UPDATE", {**IN_CHANNEL, "edited_timestamp": "2026-01-01T00:00:00+00:00"}),
    ("MESSAGE_DELETE", {"id": "1001", "channel_id": str(CHANNEL_ID), "guild_id": str(GUILD_ID)}),
    ("MESSAGE_DELETE_BULK", {"ids": ["1001", "1002"], "channel_id": str(CHANNEL_ID), "guild_id": str(GUILD_ID)}),
    ("INTERACTION_CREATE", MADE.interaction(2, {"id": "1", "name": "status", "type": 1, "options": []})),
    ("INTERACTION_CREATE", MADE.interaction(2, {"id": "1", "name": "mode", "type": 1, "options": [{"name": "value", "type": 3, "value": "all"}]})),
    ("INTERACTION_CREATE", MADE.interaction(3, {"custom_id": "glmbot:retry:7", "component_type": 2}, message=SHOWN)),
    ("INTERACTION_CREATE", MADE.interaction(4, {"id": "1", "name": "mode", "type": 1, "options": [{"name": "value", "type": 3, "value": "a", "focused": True}]})),
    ("TYPING_START", {"channel_id": str(CHANNEL_ID), "user_id": "7", "timestamp": 1}),
]  # fmt: skip
TOKENS = [event["token"] for _, event in EVENTS if "token" in event]


@pytest.fixture
async def discord() -> AsyncGenerator[DiscordServer]:
    server = DiscordServer(window_s=0.01)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def adapter(
    engine: LocalEngine, sqlite_store: Store, discord: DiscordServer
) -> AsyncGenerator[DiscordAdapter]:
    access = Access(admins={UserKey("discord", "7")}, open_platforms={"discord"})
    sampling = Sampling(max_tokens=1, temperature=0)
    async with bot(
        discord, engine, sqlite_store, sampling=sampling, access=access, pending_per_user=10_000
    ) as running:
        yield running
        assert len(discord.identified) == 1, "it never had to connect anew"
        await discord.say("still there?", user=12345, direct=True)
        await until(lambda: discord.direct_texts(12345))


@pytest.mark.timeout(3600)
@fuzz
@given(st.sampled_from(EVENTS).flatmap(lambda event: st.tuples(st.just(event[0]), changed([event[1]]))))
async def test_any_event_is_survived(
    adapter: DiscordAdapter, discord: DiscordServer, caplog: pytest.LogCaptureFixture, event: tuple[str, Any]
) -> None:
    caplog.set_level(logging.WARNING)
    caplog.clear()
    kind, data = event
    if kind == "INTERACTION_CREATE" and isinstance(data, dict) and data.get("token") in TOKENS:
        fresh = discord.interaction(2, {})
        data |= {"token": fresh["token"], "id": fresh["id"]}
    await discord.send_raw(kind, data)
    await until(lambda: adapter._client.ws.sequence == discord.sequence)
    said = [text for channel in list(discord.messages) for text in discord.texts(channel)]
    assert not any("Traceback" in text for text in said)
    ours = [record for record in caplog.records if record.name.startswith("glmbot")]
    assert not [record for record in ours if record.exc_info or record.exc_text]
