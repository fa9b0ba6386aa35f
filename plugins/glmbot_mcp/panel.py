"""Tool servers on the operator's page: how each is, and adding, removing, switching and beginning anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from glmbot.bot import Bot
from glmbot_mcp.connection import Connection
from glmbot_mcp.kept import Kept, added, removed, restarted, switched
from glmbot_mcp.servers import Servers
from glmbot_mcp.settings import FromPage, ServerSettings, Settings, looks_secret
from glmbot_mcp.words import EN, ZH

__all__ = ["ServersPanel"]

_MOST_SHOWN = 20


class ServersPanel:
    """See `glmbot.host.Panel`."""

    def __init__(self, settings: Settings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers

    async def shown(self, bot: Bot) -> Mapping[str, Any]:
        known = {each.name: each for each in self._servers.connections}
        kept = await self._servers.kept(bot)
        configured = [_row(name, server, known.get(name)) for name, server in self._settings.servers.items()]
        adds = {
            FromPage.NOTHING: [],
            FromPage.ADDRESSES: ["url"],
            FromPage.SANDBOXED: ["url", "command"],
            FromPage.PROGRAMS: ["url", "command"],
        }
        return {
            "servers": [
                *configured,
                *(_row(each.name, each.settings, known.get(each.name), each) for each in kept),
            ],
            "adds": adds[self._settings.from_page],
        }

    async def does(self, bot: Bot, wish: Mapping[str, Any], language: str) -> str:
        lines = ZH if language == "zh" else EN
        verb, name = wish.get("do"), wish.get("name")
        if not isinstance(verb, str) or not isinstance(name, str):
            raise ValueError("say what to do, and the name of a server")
        configured = name in self._settings.servers
        if verb == "add":
            given = wish.get("server")
            if not isinstance(given, dict):
                raise ValueError("say what server it is")
            await added(bot, self._settings, name, given)
            done = True
        elif verb == "restart":
            done = await restarted(bot, name, configured=configured)
        elif configured:
            raise ValueError(lines["mcp.in_configuration"].format(server=name))
        elif verb == "remove":
            done = await removed(bot, name)
        elif verb in ("on", "off"):
            done = await switched(bot, name, on=verb == "on")
        else:
            raise ValueError("what is done is add, remove, on, off or restart")
        self._servers.look()
        if not done:
            raise ValueError(lines["mcp.no_server"].format(server=name[:24]))
        return lines[f"mcp.did_{verb}"].format(server=name)


def _row(
    name: str, settings: ServerSettings | None, connection: Connection | None, kept: Kept | None = None
) -> Mapping[str, Any]:
    on = kept is None or kept.on
    trouble = kept.trouble if kept is not None else ""
    listing = connection.listing if connection is not None and on else None
    return {
        "name": name,
        "kept": kept is not None,
        "on": on,
        "state": str(connection.state) if connection is not None and on else "waiting",
        "trouble": trouble or (connection.trouble if connection is not None and on else ""),
        "where": "" if settings is None else _where(settings),
        "secrets": [] if settings is None else _secret_names(settings),
        "tools": 0 if listing is None else len(listing.tools),
        "resources": 0 if listing is None else len(listing.resources),
        "prompts": 0 if listing is None else len(listing.prompts),
        "left_out": [] if listing is None else list(listing.left_out[:_MOST_SHOWN]),
    }


def _where(settings: ServerSettings) -> str:
    """Arguments, what stands behind a path, and what looks like a key in it may be secret."""
    if settings.command:
        more = len(settings.command) - 1
        return settings.command[0] + (f" (+{more})" if more else "")
    parts = urlsplit(settings.url)
    path = "/".join("…" if looks_secret(each) else each for each in parts.path.split("/"))
    return f"{parts.scheme}://{parts.netloc}{path}" + ("?…" if parts.query else "")


def _secret_names(settings: ServerSettings) -> list[str]:
    return [*settings.env, *settings.headers, *(["token"] if settings.token or settings.token_file else [])]
