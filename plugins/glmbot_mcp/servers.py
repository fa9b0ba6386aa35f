"""All servers of the configuration, and what they are to the bot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mcp_types import ElicitRequestParams, ElicitResult

from glmbot.bot import Bot
from glmbot.host import Command, Host, Tool, ToolUse
from glmbot_mcp.calls import tools_for
from glmbot_mcp.connection import Connection
from glmbot_mcp.elicitation import answered
from glmbot_mcp.listing import Listing
from glmbot_mcp.prompts import asking, listing
from glmbot_mcp.settings import Sandbox, ServerSettings, Settings
from glmbot_mcp.words import EN, ZH

__all__ = ["Servers", "advice", "answering", "register_servers"]


def register_servers(host: Host, settings: Settings) -> None:
    servers = Servers(settings, host)
    host.words(en=EN, zh=ZH)
    host.toolbox("mcp", servers)
    host.background("servers", servers.run)
    host.command(Command("mcp", partial(listing, servers.connections), rank=300))
    host.command(Command("mcp_ask", asks="ask", says=True, argument="SERVER PROMPT", rank=310))
    host.step("mcp_prompt", partial(asking, servers.connections), before="quota")
    host.advice(lambda: advice(settings.servers))


class Servers:
    """A toolbox of all that they offer."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self.connections: Sequence[Connection] = [
            Connection(name, server, settings.folder, host.log, partial(answering, name))
            for name, server in settings.servers.items()
        ]

        self._made: dict[str, tuple[Listing, Sequence[Tool]]] = {}

    def tools(self) -> Sequence[Tool]:
        return [tool for connection in self.connections for tool in self._tools_of(connection)]

    def _tools_of(self, connection: Connection) -> Sequence[Tool]:
        """Made anew only where something changed, since who offers them looks at each new one closely."""
        made = self._made.get(connection.name)
        if made is None or made[0] is not connection.listing:
            made = self._made[connection.name] = (connection.listing, tools_for(connection))
        return made[1]

    async def run(self, bot: Bot) -> None:
        async with asyncio.TaskGroup() as group:
            for connection in self.connections:
                group.create_task(connection.run())


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
