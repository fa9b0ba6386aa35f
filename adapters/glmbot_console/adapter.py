"""A chat in the terminal: prompt_toolkit reads, rich prints. Pipes work too, a line a question."""

from __future__ import annotations

import asyncio
import locale
import os
import sys
from collections.abc import AsyncGenerator
from typing import ClassVar, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout
from pydantic import BaseModel
from rich.console import Console

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.deliveries import obey
from glmbot.delivery.thoughts import without_thoughts
from glmbot.messages import Message
from glmbot.ports import Condition, Deliver
from glmbot_console.delivery import print_replies
from glmbot_console.normalize import PLATFORM, normalize
from glmbot_console.settings import ConsoleSettings

__all__ = ["ConsoleAdapter", "ConsoleSettings"]

_STOP_WORDS = frozenset({"stop", "exit", "quit"})


class _Wanted(Deliver, Condition, Protocol): ...


class ConsoleAdapter:
    Settings: ClassVar[type[BaseModel]] = ConsoleSettings
    profile: ClassVar[Profile] = Profile(frozenset({Ability.APPEND, Ability.FILE}), visited=True)

    def __init__(self, settings: ConsoleSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = dialogue if settings.show_thoughts else without_thoughts(dialogue)
        self._out = Console(highlight=False)
        self._language = (locale.getlocale()[0] or os.environ.get("LANG", "")) or "en"
        self._answering = False
        self._assigned = dialogue.assigned(PLATFORM)

    async def start(self) -> None:
        return

    async def run(self) -> None:
        if self._settings.once:
            await self._ask(self._settings.once)
            return
        if sys.stdin.isatty():
            health = self._dialogue.health()
            self._out.print(f"[bold]glmbot[/bold] · {health.model} · {health.precision}")
            self._out.print("[dim]/help · clear · stop (Ctrl-D) · Ctrl-C[/dim]")
        async for line in self._lines():
            if line.strip().lower() in _STOP_WORDS:
                return
            if line.strip():
                await self._ask(line)

    def interrupt(self) -> bool:
        if not self._answering:
            return False
        self._stop_task = asyncio.ensure_future(self._command("/stop"))
        return True

    async def stop(self) -> None:
        await self._assigned.aclose()

    async def _ask(self, line: str) -> None:
        message = self._message(line)
        await self._dialogue.accept(message, here=True)
        async for entry in self._assigned:
            if entry.message.update_id == message.update_id:
                break
            # An earlier run's, asked in a terminal that is gone.
            await self._dialogue.delivered(entry.message)
        self._answering = True
        try:
            await print_replies(self._dialogue.respond(message), self._out)
        finally:
            self._answering = False
        await self._dialogue.delivered(message)

    async def _command(self, text: str) -> None:
        message = self._message(text)
        await self._dialogue.accept(message, here=True)
        await obey(self._dialogue, message)

    def _message(self, line: str) -> Message:
        return normalize(
            line, user_id=str(os.getuid()), user_name=os.environ.get("USER", ""), language=self._language
        )

    async def _lines(self) -> AsyncGenerator[str]:
        if not sys.stdin.isatty():
            reader = asyncio.StreamReader(limit=4 * 2**20)
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
            )
            while line := await reader.readline():
                yield line.decode("utf-8", "replace").rstrip("\n")
            return
        session: PromptSession[str] = PromptSession()
        while True:
            try:
                # Log lines that come while somebody types appear above the prompt.
                with patch_stdout(raw=True):
                    # The prompt reads Ctrl-C as a key; it must not take the process's signal handler away.
                    line = await session.prompt_async("> ", handle_sigint=False)
            except (EOFError, KeyboardInterrupt):
                return
            yield line
