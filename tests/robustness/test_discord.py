"""The worst values in every field of the gateway's events, beside somebody else's answer."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.discord_bot import bot
from adapters.waiting import until_async
from conftest import until
from fuzz.test_discord_events import EVENTS
from glmbot.dialogue.access import Access
from glmbot.keys import UserKey
from glmbot.store.base import Store
from platforms.discord_server import DiscordServer
from robustness.scripted import QUESTION, SAID, ScriptedEngine
from robustness.values import cases, sampled
from robustness.watch import watching

_SOMEBODY_ELSE = 4711


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(len(EVENTS)))
async def test_the_worst_events_harm_nobody_else(sqlite_store: Store, number: int) -> None:
    kind, example = EVENTS[number]
    discord = DiscordServer(window_s=0.01)
    await discord.start()
    engine: Any = ScriptedEngine()
    access = Access(admins={UserKey("discord", "7")}, open_platforms={"discord"})

    async def somebody_else() -> None:
        before = discord.direct_texts(_SOMEBODY_ELSE).count(SAID)
        await discord.say(QUESTION, user=_SOMEBODY_ELSE, direct=True)
        await until(lambda: discord.direct_texts(_SOMEBODY_ELSE).count(SAID) > before)

    async with bot(discord, engine, sqlite_store, access=access, pending_per_user=100_000) as adapter:
        async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
            for case in sampled(cases(example), 12):
                try:
                    event = watch.own(case.read)
                except ValueError:
                    continue
                if (
                    kind == "INTERACTION_CREATE"
                    and isinstance(event, dict)
                    and event.get("token") == example["token"]
                ):
                    fresh = discord.interaction(2, {})
                    event |= {"token": fresh["token"]} | (
                        {"id": fresh["id"]} if event.get("id") == example["id"] else {}
                    )
                with watch.trying(f"{kind}: {case}"):
                    await discord.send_raw(kind, event)
                    await until(lambda: adapter._client.ws.sequence == discord.sequence)
            said = [text for channel in list(discord.messages) for text in discord.texts(channel)]
            assert not any("Traceback" in text for text in said)
        await until_async(lambda: sqlite_store.unfinished("discord"), lambda left: not left)
    assert len(discord.identified) == 1, "it never had to connect anew"
    await discord.stop()
