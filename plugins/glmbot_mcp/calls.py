"""A server's tools, as the bot's: called with what the person sees of it, and stopped with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from mcp import MCPError

from glmbot.host import Nature, Tool, ToolFailed, ToolUse
from glmbot_mcp.connection import Away, Connection
from glmbot_mcp.listing import Listing, ServerTool, in_one_line, public_name
from glmbot_mcp.results import called, read

__all__ = ["tools_for"]

_BETWEEN_PROGRESS_S = 1.0
_LONGEST_PROGRESS = 160
_LONGEST_FAILURE = 2_000
_LISTED = 40
_LONGEST_CALL_S = 86_400.0


def tools_for(connection: Connection) -> Sequence[Tool]:
    """Those of now."""
    listing = connection.listing
    tools = [_tool(connection, each) for each in listing.tools]
    if listing.resources or listing.templates:
        reader = _reader(connection, listing)
        tools = [*(each for each in tools if each.name != reader.name), reader]
    return tools


def _tool(connection: Connection, tool: ServerTool) -> Tool:
    async def function(use: ToolUse) -> str:
        return await _call(connection, tool, use)

    # A server may call its tool like another one's: whoever is asked about it sees whose it is.
    titled = f"{connection.name}: {tool.title}"
    title = {"en": titled, "zh": titled} if tool.title else {}
    return Tool(
        tool.public,
        tool.description,
        tool.schema,
        function,
        tool.nature,
        asks_admins=connection.settings.asks_admins,
        timeout_s=connection.settings.timeout_s,
        title=title,
        checked=True,
    )


async def _call(connection: Connection, tool: ServerTool, use: ToolUse) -> str:
    now = next((each for each in connection.listing.tools if each.public == tool.public), None)
    if now is not None and now.digest != tool.digest:
        raise ToolFailed("The server has changed this tool since it was offered. It was not called.")
    shown_at = -_BETWEEN_PROGRESS_S

    async def show(progress: float, total: float | None, message: str | None) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _BETWEEN_PROGRESS_S:
            shown_at = time.monotonic()
            use.progress(_progress(progress, total, message or ""))

    try:
        async with connection.asked(use) as client:
            # Whoever calls keeps the time: that of a person who is asked in between does not count.
            result = await client.call_tool(
                tool.name, dict(use.arguments), read_timeout_seconds=_LONGEST_CALL_S, progress_callback=show
            )
    except (Away, MCPError, TimeoutError) as error:
        raise _failed(connection, error) from error
    if result.is_error:
        raise ToolFailed(called(result)[:_LONGEST_FAILURE] or "The tool failed, and does not say why.")
    return called(result)


def _reader(connection: Connection, listing: Listing) -> Tool:
    """What a server has to read, as a tool that lists it."""

    async def function(use: ToolUse) -> str:
        uri = str(use.arguments.get("uri", ""))
        here = connection.listing
        if uri not in dict(here.resources) and not any(uri.startswith(each) for each in here.templates):
            raise ToolFailed("The server has no such resource.")
        try:
            async with asyncio.timeout(connection.settings.timeout_s), connection.asked(use) as client:
                return read(await client.read_resource(uri))
        except (Away, MCPError, TimeoutError) as error:
            raise _failed(connection, error) from error

    listed = [f"{uri} ({name})" if name else uri for uri, name in listing.resources[:_LISTED]]
    listed += [f"{each}…" for each in listing.templates[:_LISTED]]
    more = len(listing.resources) - _LISTED
    description = f"Reads a resource of {connection.name}. There are:\n" + "\n".join(listed)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"uri": {"type": "string", "maxLength": 2048}},
        "required": ["uri"],
        "additionalProperties": False,
    }
    return Tool(
        public_name(connection.name, "read_resource"),
        description + (f"\nand {more} more" if more > 0 else ""),
        schema,
        function,
        connection.settings.natures.get("read_resource", Nature.READS),
        asks_admins=connection.settings.asks_admins,
        timeout_s=connection.settings.timeout_s,
    )


def _progress(done: float, total: float | None, message: str) -> str:
    """The tool's name is shown before it."""
    share = f"{done:g}/{total:g}" if total else f"{done:g}"
    words = in_one_line(message, _LONGEST_PROGRESS)
    return f"{words} ({share})" if words else share


def _failed(connection: Connection, error: Exception) -> ToolFailed:
    if isinstance(error, TimeoutError):
        why = f"it took more than {connection.settings.timeout_s:g} seconds"
    elif isinstance(error, MCPError):
        why = in_one_line(error.message, _LONGEST_FAILURE)
    else:
        why = str(error)
    return ToolFailed(f"The server {connection.name} did not do it: {why}")
