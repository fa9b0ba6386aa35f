"""An address of its own for one route: for a proxy that was set up for it. Who is not admitted costs nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import cast

from aiohttp import web

from glmbot.errors import AdapterError
from glmbot.http.routes import Address, Route
from glmbot.http.serving import Serving

__all__ = ["Door"]

_log = logging.getLogger(__name__)

# Telegram opens at most 100: https://core.telegram.org/bots/api#setwebhook
_MOST_CONNECTIONS = 128
_IDLE_S = 15.0
_protocol_log = logging.getLogger(f"{__name__}.protocol")
# What is no HTTP is answered 400 by aiohttp; a line with a traceback for each would fill the log.
_protocol_log.setLevel(logging.CRITICAL + 1)


class Door:
    def __init__(self, route: Route) -> None:
        self._route = route
        self._serving = Serving()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._busy: set[asyncio.BaseProtocol] = set()

    async def open(self, owner: str, address: Address) -> None:
        """Raises AdapterError when it can't be listened on."""
        app = web.Application(middlewares=[self._receive])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=2,
            logger=_protocol_log,
            auto_decompress=False,
            keepalive_timeout=_IDLE_S,
            lingering_time=0.0,
        )
        await self._runner.setup()
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                self._connection, address.host, address.port
            )
        except OSError as error:
            await self._runner.cleanup()
            raise AdapterError(
                f"[{owner}] {address} can't be listened on: {error.strerror or error}"
            ) from error
        _log.info("[%s] is answered at %s, too", owner, address)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._serving.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        """One more than may be takes the place of the oldest on which nothing is being stored."""
        server = cast("web.Server", cast(web.AppRunner, self._runner).server)
        open_ = [handler for handler in server.connections if handler.transport is not None]
        if len(open_) >= _MOST_CONNECTIONS:
            for handler in open_:
                if handler not in self._busy:
                    handler.force_close()
                    break
        return server()

    @web.middleware
    async def _receive(self, request: web.Request, handler: object) -> web.StreamResponse:
        """Whatever is asked: what else would be there is a 404."""
        if request.path != self._route.path:
            return web.Response(status=404, text="there is nothing here")
        return await self._serving.answer(request, self._route, partial(self._at_work, request))

    @contextmanager
    def _at_work(self, request: web.Request, _: int) -> Generator[None]:
        self._busy.add(request.protocol)
        try:
            yield
        finally:
            self._busy.discard(request.protocol)
