"""A server of our own, connected, and the use of a tool by somebody."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from glmbot.bot import Bot
from glmbot.messages import ChatKind
from glmbot_mcp.calls import tools_for
from glmbot_mcp.connection import Connection, State
from glmbot_mcp.servers import answering
from glmbot_mcp.settings import ServerSettings

SERVER = Path(__file__).parent / "tiny_mcp_server.py"
LOG = logging.getLogger("glmbot.plugins.mcp")


class Use:
    """What a tool is handed, with all that is shown and asked by it."""

    id, user, conversation, language, timezone = "1", "telegram:5", "telegram:5", "en", "UTC"
    user_name = ""
    chat_kind, bot = ChatKind.PRIVATE, cast(Bot, None)

    def __init__(
        self, presses: Callable[[Sequence[str]], str | None] = lambda _: None, **arguments: Any
    ) -> None:
        self.arguments: Mapping[str, Any] = arguments
        self.shown: list[str] = []
        self.asked: list[tuple[str, Sequence[str]]] = []
        self.typed: list[bool] = []
        self.sampled: list[tuple[Sequence[tuple[str, str]], Mapping[str, Any]]] = []
        self.seen = asyncio.Event()
        self._presses = presses

    def progress(self, words: str) -> None:
        self.shown.append(words)
        self.seen.set()

    async def ask(self, question: str, choices: Sequence[str], *, typed: bool = False) -> str | None:
        self.asked.append((question, choices))
        self.typed.append(typed)
        return self._presses(choices)

    async def sample(self, turns: Sequence[tuple[str, str]], **wishes: Any) -> str:
        self.sampled.append((turns, wishes))
        return "the model says so"


def tiny(how: str = "", **changes: Any) -> ServerSettings:
    given = {
        "command": [sys.executable, "-E", "-S", str(SERVER), how],
        "sandbox": "off",
        "timeout_s": 20,
        **changes,
    }
    return ServerSettings.model_validate(given)


@asynccontextmanager
async def running(
    folder: Path, settings: ServerSettings, state: State = State.READY
) -> AsyncGenerator[Connection]:
    connection = Connection("tiny", settings, folder, LOG, partial(answering, "tiny"))
    run = asyncio.create_task(connection.run())
    try:
        await becomes(connection, lambda: connection.state is state)
        yield connection
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


async def becomes(connection: Connection, true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30), connection.changed:
        await connection.changed.wait_for(true)


async def call(connection: Connection, name: str, use: Use | None = None) -> str:
    tool = next(each for each in tools_for(connection) if each.name == f"tiny_{name}")
    return await tool.function(use or Use())
