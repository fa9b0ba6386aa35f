"""Prompts of servers, as commands: /mcp lists those that somebody may use, /mcp_ask asks the model with one."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from mcp import MCPError

from glmbot.host import Call, Exchange, Follows
from glmbot.messages import Reply, ReplyState, Role
from glmbot_mcp.connection import Away, Connection, State
from glmbot_mcp.listing import ServerPrompt, in_one_line
from glmbot_mcp.results import prompted
from glmbot_mcp.settings import WhoMay
from glmbot_mcp.words import EN, ZH

__all__ = ["arguments_of", "asking", "listing", "may_use"]

_COMMAND = "mcp_ask"
_MOST_LISTED = 30


async def listing(connections: Sequence[Connection], call: Call) -> Reply:
    lines: list[str] = []
    for each in connections:
        if call.role is Role.ADMIN:
            lines += _status(each, call)
        if may_use(each, call.role):
            for prompt in each.listing.prompts[:_MOST_LISTED]:
                line = call.text("mcp.prompt", server=each.name, usage=_usage(prompt))
                lines.append(f"{line} · {prompt.description}" if prompt.description else line)
    return Reply("", ReplyState.FINAL, "\n".join(lines) or call.text("mcp.nothing"))


async def asking(
    connections: Sequence[Connection], exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    """A step: the prompt takes the place of what was said. It is asked like any other question, and like those it
    is counted, moderated and kept."""
    if exchange.asked_by == _COMMAND:
        role = getattr(getattr(exchange, "standing", None), "role", None)
        given = await _prompted(connections, exchange.message.text.strip(), role)
        if isinstance(given, tuple):
            key, values = given
            lines = ZH if exchange.language == "zh" else EN
            yield Reply("", ReplyState.FAILED, lines[key].format(**values))
            return
        exchange.message = replace(exchange.message, text=given)
    async with aclosing(following(exchange)) as replies:
        async for reply in replies:
            yield reply


def may_use(connection: Connection, role: Role | None) -> bool:
    who = connection.settings.prompts
    return role is not None and (who is WhoMay.EVERYONE or (who is WhoMay.ADMINS and role is Role.ADMIN))


def arguments_of(prompt: ServerPrompt, given: str) -> dict[str, str] | tuple[str, dict[str, Any]]:
    """`name=value` each, with quotes around spaces; where the prompt takes but one, all that is said is its. Else
    what is wrong, as a line's name and values."""
    names = [name for name, _ in prompt.arguments]
    arguments: dict[str, str] = {}
    if len(names) == 1 and not given.startswith(f"{names[0]}="):
        arguments = {names[0]: given} if given else {}
    else:
        try:
            words = shlex.split(given)
        except ValueError:
            words = given.split()
        pairs = [word.partition("=") for word in words]
        strange = [in_one_line(name, 40) for name, is_one, _ in pairs if not is_one or name not in names]
        if strange:
            return "mcp.unknown", {"names": ", ".join(strange[:5]), "known": ", ".join(names) or "-"}
        arguments = {name: value for name, _, value in pairs}
    missing = [name for name, required in prompt.arguments if required and not arguments.get(name)]
    return ("mcp.missing", {"names": ", ".join(missing)}) if missing else arguments


async def _prompted(
    connections: Sequence[Connection], argument: str, role: Role | None
) -> str | tuple[str, dict[str, Any]]:
    """The prompt's text, or what is wrong."""
    server, _, rest = argument.partition(" ")
    name, _, given = rest.strip().partition(" ")
    if not server or not name:
        return "mcp.usage", {}
    connection = next((each for each in connections if each.name == server and may_use(each, role)), None)
    prompts = connection.listing.prompts if connection is not None else ()
    prompt = next((each for each in prompts if each.name == name), None)
    if connection is None or prompt is None:
        return "mcp.no_prompt", {"prompt": in_one_line(name, 64)}
    arguments = arguments_of(prompt, given.strip())
    if isinstance(arguments, tuple):
        return arguments
    try:
        async with asyncio.timeout(connection.settings.timeout_s), connection.asked() as client:
            text = prompted(await client.get_prompt(name, arguments))
    except (Away, MCPError, TimeoutError) as error:
        why = in_one_line(error.message if isinstance(error, MCPError) else str(error), 200) or "…"
        return "mcp.failed", {"server": server, "why": why}
    return text or ("mcp.empty", {"server": server})


def _status(connection: Connection, call: Call) -> Sequence[str]:
    listing = connection.listing
    if connection.state is State.READY:
        counts = {"tools": len(listing.tools), "resources": len(listing.resources)}
        first = call.text("mcp.ready", server=connection.name, **counts)
    elif connection.state is State.AWAY:
        first = call.text("mcp.away", server=connection.name, trouble=connection.trouble)
    else:
        first = call.text("mcp.connecting", server=connection.name)
    return [first, *(call.text("mcp.left_out", what=each) for each in listing.left_out[:5])]


def _usage(prompt: ServerPrompt) -> str:
    arguments = (f"{name}=…" if required else f"[{name}=…]" for name, required in prompt.arguments)
    return " ".join((prompt.name, *arguments))
