"""Servers at an address: the SDK's own, of the newest protocol, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from glmbot.host import ToolFailed
from glmbot_mcp.connection import State
from glmbot_mcp.settings import ServerSettings
from plugins.mcp_world import Use, becomes, call, running

TOKEN = "only-for-this-server"
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def sdk_server() -> MCPServer:
    server = MCPServer("tiny")

    @server.tool()
    async def count(context: Context, to: int) -> str:
        await context.report_progress(1, to, "counting")
        return f"counted to {to}"

    @server.tool()
    async def wait() -> str:
        await asyncio.sleep(3600)
        return ""

    @server.tool()
    async def more(context: Context) -> str:
        server.add_tool(later)
        await context.notify_tools_changed()
        return "more"

    @server.tool()
    async def much() -> str:
        return "x" * 5_000_000

    return server


def later(word: str) -> str:
    return word


def guarded(app: App, seen: list[str]) -> App:
    async def only_with_token(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            seen.append(headers.get(b"x-team", b"").decode())
            if headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    return only_with_token


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncGenerator[int]:
    config = uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 — it has no event for this
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serve


def at(port: int, **changes: Any) -> ServerSettings:
    given = {"url": f"http://127.0.0.1:{port}/mcp", "token": TOKEN, "headers": {"X-Team": "ours"}, **changes}
    return ServerSettings.model_validate(given)


async def test_it_is_called_with_its_token_and_shows_its_progress(tmp_path: Path) -> None:
    seen: list[str] = []
    async with serving(guarded(sdk_server().streamable_http_app(), seen)) as port:
        async with running(tmp_path, at(port)) as server:
            use = Use(to=3)
            assert await call(server, "count", use) == "counted to 3"
            assert use.shown == ["counting (1/3)"]
            assert set(seen) == {"ours"}
            await call(server, "more")
            await becomes(server, lambda: any(tool.name == "later" for tool in server.listing.tools))
            calling = asyncio.create_task(call(server, "wait"))
            await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            with pytest.raises(ToolFailed):
                await call(server, "much")
        async with running(tmp_path, at(port, token="another"), State.AWAY) as server:
            assert server.trouble
            assert "another" not in server.trouble


async def test_a_server_that_is_gone_fails_its_call_and_comes_back(tmp_path: Path) -> None:
    async with serving(guarded(sdk_server().streamable_http_app(), [])) as port:
        assert port
    async with running(tmp_path, at(port, connect_s=5), State.AWAY) as server:
        async with serving(guarded(sdk_server().streamable_http_app(), []), port):
            await becomes(server, lambda: server.state is State.READY)
            assert await call(server, "count", Use(to=1)) == "counted to 1"
        with pytest.raises(ToolFailed):
            await call(server, "count", Use(to=1))
        await becomes(server, lambda: server.state is State.AWAY)
