"""What is asked of a tool on Telegram: the buttons under the growing answer, and who may press them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from adapters.telegram_bot import bot
from conftest import until
from dialogue.tool_world import CallingEngine, called, tool
from glmbot.host import Nature, ToolUse
from glmbot.plugins import load_plugins
from glmbot.registered import RegisteredTool
from glmbot.store.base import Store
from platforms.telegram_server import TelegramServer

GROUP = -100


async def test_the_asker_allows_a_call_by_its_button_and_nobody_else(
    telegram: TelegramServer, sqlite_store: Store
) -> None:
    calls: list[str] = []

    async def read(use: ToolUse) -> str:
        calls.append(use.user)
        return "sunny"

    registered = RegisteredTool("test", logging.getLogger("test"), tool("read", read, Nature.READS))
    plugins = replace(load_plugins(), tools={"read": registered})
    engine: Any = CallingEngine(called(("read", {"q": "x"})), "It is sunny.")

    def button() -> tuple[int, str] | None:
        for number, message in telegram.messages.get(GROUP, {}).items():
            for row in (message.get("reply_markup") or {}).get("inline_keyboard", ()):
                for each in row:
                    if each["callback_data"].startswith("toolyes"):
                        return number, each["callback_data"].partition(":")[0]
        return None

    async with bot(telegram, engine, sqlite_store, plugins=plugins):
        await telegram.say("@glm_test_bot how is it?", user=8, chat=GROUP)
        await until(button, 25)
        message, command = button() or (0, "")
        query = await telegram.press(message, command, user=9, chat=GROUP)
        await until(lambda: query in telegram.callbacks, 15)
        assert telegram.callbacks[query] == "Somebody else is asked that."
        assert calls == []
        query = await telegram.press(message, command, user=8, chat=GROUP)
        await until(lambda: query in telegram.callbacks and "It is sunny." in telegram.texts(GROUP), 15)
        assert calls == ["telegram:8"]
        assert telegram.callbacks[query] == "Done."
