"""Waiting for what a store or a server will say, and comparing texts across renderings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from glmbot.http.registry import Routes
from glmbot.ports import Adapter
from glmbot.store.base import Store

__all__ = ["Server", "lawful", "letters", "nothing_left", "running", "until_async"]


@asynccontextmanager
async def running(adapter: Adapter, routes: Routes | None = None) -> AsyncGenerator[None]:
    """Started and serving, as `glmbot run` has it; stopped in the end. routes: of several adapters together."""
    routes, owner = routes or Routes(), type(adapter).__name__
    if (serve := getattr(adapter, "serve_routes", None)) is not None:
        serve(routes)
    if (own := getattr(adapter, "routes", None)) is not None:
        await routes.open(owner, own())
    await adapter.start()
    task = asyncio.create_task(adapter.run())
    try:
        yield
    finally:
        await routes.close(owner)
        await adapter.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Server(Protocol):
    """Of a platform, at its border."""

    @property
    def violations(self) -> list[str]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


_S = TypeVar("_S", bound=Server)


@asynccontextmanager
async def lawful(server: _S) -> AsyncGenerator[_S]:
    """Running; none of its laws may have been broken in the end."""
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []


async def nothing_left(store: Store, platform: str) -> None:
    await until_async(lambda: store.unfinished(platform), lambda left: not left)


async def until_async(ask: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> None:
    for _ in range(9000):
        if holds(await ask()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("still not true after 90 s")


def letters(text: str) -> str:
    """What of a text survives rendering whatever its Markdown: letters and digits."""
    return "".join(char for char in text if char.isalnum())
