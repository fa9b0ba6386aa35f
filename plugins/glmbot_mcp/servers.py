"""All servers, those of the configuration and of the operator's page, and what they are to the bot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from mcp_types import ElicitRequestParams, ElicitResult

from glmbot.bot import Bot
from glmbot.errors import StoreError
from glmbot.host import Command, Host, Tool, ToolUse
from glmbot_mcp.calls import tools_for
from glmbot_mcp.connection import Connection
from glmbot_mcp.elicitation import answered
from glmbot_mcp.kept import Kept, guard_of, kept_servers, restarts
from glmbot_mcp.listing import Listing
from glmbot_mcp.prompts import Prompts
from glmbot_mcp.settings import FromPage, Sandbox, ServerSettings, Settings
from glmbot_mcp.words import EN, ZH

__all__ = ["Servers", "advice", "answering", "register_servers"]


_LOOKS_S = 5.0
_ENDS_S = 15.0


def register_servers(host: Host, settings: Settings) -> Servers:
    servers = Servers(settings, host)
    host.words(en=EN, zh=ZH)
    host.toolbox("mcp", servers)
    host.background("servers", servers.run)
    prompts = Prompts(lambda: servers.connections)
    host.command(Command("mcp", prompts.listing, rank=300))
    host.commandbox("mcp_prompts", prompts)
    host.step("mcp_command", prompts.checking, before="quota")
    host.step("mcp_prompt", prompts.asking, after="quota")
    host.advice(lambda: advice(settings.servers))
    return servers


class Servers:
    """A toolbox of all that they offer: those of the configuration, and those that were added on the page."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._connections = {name: self._connection(name, each) for name, each in settings.servers.items()}
        self._made: dict[str, tuple[Listing, Sequence[Tool]]] = {}
        self._running: dict[str, tuple[tuple[int, ServerSettings], asyncio.Task[None]]] = {}
        self._looks = asyncio.Event()

    @property
    def connections(self) -> Sequence[Connection]:
        return list(self._connections.values())

    def tools(self) -> Sequence[Tool]:
        return [tool for connection in self.connections for tool in self._tools_of(connection)]

    def look(self) -> None:
        """Something may have been changed on the page."""
        self._looks.set()

    async def kept(self, bot: Bot) -> Sequence[Kept]:
        """Those that were added on the page, but for the configuration's names. Raises StoreError."""
        if self._settings.from_page is FromPage.NOTHING:
            return []
        found = await kept_servers(bot, self._settings)
        return [each for each in found if each.name not in self._settings.servers]

    async def run(self, bot: Bot) -> None:
        """Until it is cancelled."""
        lost = False
        try:
            while True:
                self._looks.clear()
                try:
                    await self._follow(await self._wanted(bot))
                    lost = False
                except StoreError as error:
                    if not lost:
                        self._host.log.warning("which servers the page has is not known now: %s", error)
                    lost = True
                    if not self._running:
                        await self._follow({name: (0, each) for name, each in self._settings.servers.items()})
                # `wait_for` of Python 3.11 may swallow a cancellation.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOKS_S):
                        await self._looks.wait()
        finally:
            await self._end(list(self._running))

    async def _wanted(self, bot: Bot) -> Mapping[str, tuple[int, ServerSettings]]:
        """By name, each with a number that changes when it is to be begun anew."""
        if self._settings.from_page is FromPage.NOTHING:
            return {name: (0, each) for name, each in self._settings.servers.items()}
        again = await restarts(bot)
        wanted = {name: (again.get(name, 0), each) for name, each in self._settings.servers.items()}
        for each in await self.kept(bot):
            if each.on and each.settings is not None:
                wanted[each.name] = (each.version, each.settings)
        return wanted

    async def _follow(self, wanted: Mapping[str, tuple[int, ServerSettings]]) -> None:
        """End those that are not wanted, or not as they are, and begin those that are."""
        for _, task in self._running.values():
            if task.done():
                task.result()
        # One that was removed and added anew between two looks begins with the same number.
        await self._end([name for name, (begun, _) in self._running.items() if wanted.get(name) != begun])
        for name, each in wanted.items():
            if name in self._running:
                continue
            settings = each[1]
            if name not in self._connections:
                self._host.hide(settings.hidden)
                self._connections[name] = self._connection(name, settings)
            task = asyncio.create_task(self._connections[name].run())
            self._running[name] = each, task

    async def _end(self, names: Sequence[str]) -> None:
        tasks = {self._running.pop(name)[1] for name in names}
        for name in names:
            # Its tools are gone with it; what it has to say to those who still wait, it says.
            del self._connections[name]
            self._made.pop(name, None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDS_S)

    def _connection(self, name: str, settings: ServerSettings) -> Connection:
        guard = None if name in self._settings.servers else guard_of(self._settings)
        return Connection(
            name, settings, self._settings.folder, self._host.log, partial(answering, name), guard
        )

    def _tools_of(self, connection: Connection) -> Sequence[Tool]:
        """Made anew only where something changed, since who offers them looks at each new one closely."""
        made = self._made.get(connection.name)
        if made is None or made[0] is not connection.listing:
            made = self._made[connection.name] = (connection.listing, tools_for(connection))
        return made[1]


def advice(
    servers: Mapping[str, ServerSettings], found: Callable[[str], str | None] = shutil.which
) -> Sequence[tuple[bool, str]]:
    """What `glmbot doctor` says of them, without starting any."""
    said: list[tuple[bool, str]] = []
    for name, server in servers.items():
        if not server.command:
            plain = server.url.startswith("http://") and bool(
                server.token or server.token_file or server.headers
            )
            if plain:
                said.append((False, f"{name}: what is secret is sent to {server.url} without encryption"))
            continue
        if found(server.command[0]) is None:
            said.append((False, f"{name}: {server.command[0]} is no program that can be run"))
        if server.sandbox is Sandbox.OFF:
            said.append((False, f"{name}: it runs without a sandbox, and can read what the bot can read"))
        elif found("bwrap") is None:
            words = "bubblewrap is not installed, so it can read what the bot can read; apt-get install bubblewrap"
            said.append((False, f"{name}: {words}"))
    return said or [(True, f"{len(servers)} servers")]


async def answering(name: str, use: ToolUse, params: ElicitRequestParams) -> ElicitResult:
    lines = ZH if use.language == "zh" else EN

    def words(key: str, **values: object) -> str:
        return lines[key].format(**values)

    return await answered(use, name, params, words)
