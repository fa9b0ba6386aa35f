"""Two bots of one platform in one group and one process: each has its own histories, settings, persona and people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from adapters import telegram_bot
from adapters.scripted import ScriptedEngine, echoing
from adapters.waiting import nothing_left
from conftest import make_dialogue, until
from glmbot.background import Troubles
from glmbot.dialogue.access import Access
from glmbot.dialogue.settings import Persona
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.platforms import Platforms
from glmbot.store.base import Store
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from platforms.telegram_server import BOT, TelegramServer

PLAIN, PIRATE = "telegram", "telegram.pirate"
GROUP, ADMIN = -5, 1
PIRATES_TOKEN = "987654321:BBtestTESTtestTESTtestTESTtestTEST0"


@dataclass
class Group:
    """What is said in it reaches both bots, as it does where both may read everything."""

    servers: dict[str, TelegramServer]
    platforms: Platforms
    troubles: Troubles
    engine: ScriptedEngine
    wanted: dict[str, TelegramSettings]

    async def say(self, text: str, user: int = 7) -> None:
        for server in self.servers.values():
            await server.say(text, user=user, chat=GROUP)

    def said_by(self, bot: str) -> Sequence[str]:
        return self.servers[bot].texts(GROUP)

    async def hear(self, bot: str, words: str) -> None:
        await until(lambda: any(words in text for text in self.said_by(bot)))


def settings_for(server: TelegramServer) -> TelegramSettings:
    return telegram_bot.settings_for(server).model_copy(update={"token": SecretStr(server.token)})


@asynccontextmanager
async def group_of_two(store: Store, access: Access) -> AsyncGenerator[Group]:
    servers = {
        PLAIN: TelegramServer(seconds_per_message=0.01),
        PIRATE: TelegramServer(
            seconds_per_message=0.01,
            token=PIRATES_TOKEN,
            bot=BOT | {"id": 4343, "username": "glm_pirate_bot"},
        ),
    }
    engine, troubles = echoing(), Troubles()
    dialogue: Any = make_dialogue(
        engine,
        store,
        access=access,
        system_prompt="Be kind.",
        personas={PIRATE: Persona("You are a pirate.")},
    )
    platforms = Platforms({"telegram": TelegramAdapter}, dialogue, troubles)
    for server in servers.values():
        await server.start()
    wanted = {name: settings_for(server) for name, server in servers.items()}
    platforms.begin(wanted)
    await until(lambda: len(platforms.adapters) == len(wanted))
    try:
        yield Group(servers, platforms, troubles, engine, wanted)
    finally:
        await platforms.stop()
        for server in servers.values():
            await server.stop()
            assert server.violations == []


OPEN = Access(admins={UserKey(PLAIN, str(ADMIN))}, open_platforms={PLAIN, PIRATE})


async def test_each_answers_only_what_is_said_to_it_with_its_own_history_and_persona(
    sqlite_store: Store,
) -> None:
    async with group_of_two(sqlite_store, OPEN) as group:
        await group.say("@glm_test_bot the first word")
        await group.hear(PLAIN, "the first word")
        await group.say("@glm_pirate_bot ahoy")
        await group.hear(PIRATE, "ahoy")
        await group.say("@glm_test_bot and more")
        await group.hear(PLAIN, "and more")
        for name in (PLAIN, PIRATE):
            await nothing_left(sqlite_store, name)
        first, pirate, last = group.engine.prompts
    assert first.startswith("S:Be kind.")
    assert pirate.startswith("S:You are a pirate.")
    assert "the first word" not in pirate
    assert "the first word" in last
    assert "ahoy" not in last
    assert not any("ahoy" in text for text in group.said_by(PLAIN))
    assert not any("word" in text for text in group.said_by(PIRATE))
    # The plain bot's is where released versions have it.
    for name, turns in ((PLAIN, 2), (PIRATE, 1)):
        assert len(await sqlite_store.last_turns(ConversationKey(name, str(GROUP), "7"), 9)) == turns


async def test_what_is_set_for_a_group_with_one_does_not_hold_for_the_other(sqlite_store: Store) -> None:
    async with group_of_two(sqlite_store, OPEN) as group:
        await group.say("/mode@glm_test_bot all", user=ADMIN)
        await until(lambda: bool(group.said_by(PLAIN)))
        await group.say("nobody is named")
        await group.hear(PLAIN, "nobody is named")
        # Who administers one is nobody to the other.
        await group.say("/mode@glm_pirate_bot all", user=ADMIN)
        await group.hear(PIRATE, "administrators")
        await group.say("nobody again")
        await group.hear(PLAIN, "nobody again")
        for name in (PLAIN, PIRATE):
            await nothing_left(sqlite_store, name)
    assert not any("nobody" in text for text in group.said_by(PIRATE))
    settings = [await sqlite_store.settings(ChatKey(name, str(GROUP))) for name in (PLAIN, PIRATE)]
    assert [each.get("mode") for each in settings] == ["all", None]


async def test_who_is_let_in_by_one_is_a_stranger_to_the_other(sqlite_store: Store) -> None:
    access = Access(users={UserKey(PLAIN, "7")}, admins={UserKey(PIRATE, "8")})
    async with group_of_two(sqlite_store, access) as group:
        for server in group.servers.values():
            await server.say("hello", user=7)
        await until(lambda: any("answer to hello" in text for text in group.servers[PLAIN].texts(7)))
        await until(lambda: bool(group.servers[PIRATE].texts(7)))
        codes = await sqlite_store.having("pairing", 9)
    assert list(codes) == [f"{PIRATE}:7"]


async def test_one_that_fails_or_is_taken_away_leaves_the_other_at_work(sqlite_store: Store) -> None:
    async with group_of_two(sqlite_store, OPEN) as group:
        plain, pirate = _adapters(group)
        # The pirate's token is another's by now: it is refused, tried again, and named.
        group.servers[PIRATE].token = "1:other"
        changed = group.wanted[PIRATE].model_copy(update={"poll_timeout_s": 4})
        group.platforms.change({**group.wanted, PIRATE: changed})
        await until(lambda: [each.part for each in group.troubles.now] == [PIRATE])
        (trouble,) = group.troubles.now
        assert "[telegram.pirate] token" in trouble.words
        assert trouble.partial
        await group.say("@glm_test_bot still there")
        await group.hear(PLAIN, "still there")
        group.servers[PIRATE].token = PIRATES_TOKEN
        await until(lambda: not group.troubles.now)
        await group.say("@glm_pirate_bot back again")
        await group.hear(PIRATE, "back again")
        group.platforms.change({PLAIN: group.wanted[PLAIN]})
        await until(lambda: len(group.platforms.adapters) == 1)
        assert _adapters(group) == [plain], "who did not change was never stopped"
        assert pirate is not plain
        assert not group.platforms.ended.done()


def _adapters(group: Group) -> list[Any]:
    return list(group.platforms.adapters)


@pytest.mark.parametrize("part", ["telegram", "telegram.pirate"])
async def test_what_waits_when_the_process_ends_goes_on_with_the_bot_it_was_said_to(
    sqlite_store: Store, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_telegram.adapter._DRAIN_S", 0.1)
    words = "@glm_test_bot hold on" if part == PLAIN else "@glm_pirate_bot hold on"
    async with group_of_two(sqlite_store, OPEN) as group:
        group.engine.goes_on.clear()
        await group.say(words)
        await until(lambda: bool(group.engine.prompts))
        await asyncio.gather(*(each.stop() for each in group.platforms.adapters))
    waiting = {name: len(await sqlite_store.unfinished(name)) for name in (PLAIN, PIRATE)}
    assert waiting == {name: int(name == part) for name in (PLAIN, PIRATE)}
