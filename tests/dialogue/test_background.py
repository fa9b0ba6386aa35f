"""What plug-ins do beside the conversations: as long as the bot runs, and whatever it does, nobody else is harmed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.bot import Bot
from glmbot.host import Background
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Announce, ChatKind, Message
from glmbot.notes import Note
from glmbot.plugins import Plugins, load_plugins
from glmbot.registered import RegisteredBackground
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore
from virtual_time import run_in_virtual_time

HERE, ANN = ConversationKey("telegram", "-100", "5"), UserKey("telegram", "5")


def plugins_with(**works: Background) -> Plugins:
    plugins = load_plugins()
    for name, work in works.items():
        plugins.backgrounds[name] = RegisteredBackground("test", logging.getLogger("test"), work)
    return plugins


async def waiting(store: Store) -> list[Message]:
    return [entry.message for entry in await store.unfinished("telegram")]


async def test_several_processes_say_it_once(store: Store) -> None:
    said = asyncio.Event()
    await make_dialogue(ScriptedEngine(), store)._powers.book("tea").put(Note("9 tea", "Tea!", str(ANN)))

    async def remind(bot: Bot) -> None:
        for note in await bot.book("tea").page(upto="9 z"):
            await bot.announce(HERE, note.text, name=f"tea {note.name}")
            await bot.ask_in(HERE, ANN, "/stop", name=f"tea {note.name}", kind=ChatKind.GROUP)
            await bot.book("tea").remove(note)
        said.set()
        await asyncio.Event().wait()

    bots = [make_dialogue(ScriptedEngine(), store, plugins=plugins_with(remind=remind)) for _ in range(3)]
    running = [asyncio.create_task(bot.run()) for bot in bots]
    await said.wait()
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    told, asked = sorted(await waiting(store), key=lambda message: message.text, reverse=True)
    assert (told.text, told.intent, told.conversation.user) == ("Tea!", Announce(), "")
    # As a question, whatever stands in it; and who has asked is who it is answered for.
    assert (asked.text, asked.user, asked.vouched) == ("/ask /stop", ANN, None)
    assert await store.notes("tea", 10) == []


def test_one_that_fails_begins_again_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def main() -> None:
        begun: list[str] = []

        async def fails(bot: Bot) -> None:
            begun.append("fails")
            raise SystemExit("enough")

        async def goes_on(bot: Bot) -> None:
            begun.append("goes on")
            await asyncio.Event().wait()

        store = SqliteStore(Path(":memory:"))
        await store.open()
        dialogue = make_dialogue(ScriptedEngine(), store, plugins=plugins_with(fails=fails, goes_on=goes_on))
        running = asyncio.create_task(dialogue.run())
        await asyncio.sleep(2.5)
        assert [str(each) for each in dialogue.troubles.now if each.part == "test: fails"]
        assert begun.count("fails") == 2
        assert begun.count("goes on") == 1
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await store.close()

    run_in_virtual_time(main())
