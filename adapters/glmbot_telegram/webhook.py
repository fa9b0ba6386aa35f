"""Receiving updates by webhook: a small HTTP server that Telegram posts to, through the operator's HTTPS proxy.

https://core.telegram.org/bots/api#setwebhook: every request carries the secret in a header; one that is not
answered with 2xx is sent again, so an update is confirmed only once it is stored. Who has not the secret costs
nothing: their body is not read and their connection is closed.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from glmbot.errors import AdapterError, StoreError
from glmbot.ports import listening_error

__all__ = ["Webhook", "check_port"]

_log = logging.getLogger(__name__)

_HEADER = "X-Telegram-Bot-Api-Secret-Token"
_LARGEST_BODY = 2**20
_LONGEST_BODY_S = 10.0
# Telegram opens at most 100: https://core.telegram.org/bots/api#setwebhook
_MOST_CONNECTIONS = 128
_IDLE_S = 15.0
_protocol_log = logging.getLogger(f"{__name__}.protocol")
# What is no HTTP is answered 400 by aiohttp; a line with a traceback for each would fill the log.
_protocol_log.setLevel(logging.CRITICAL + 1)


def check_port(host: str, port: int) -> None:
    """Raises AdapterError when it can't be listened on."""
    if (error := listening_error(host, port)) is not None:
        raise _not_listening(host, port, error) from error


class Webhook:
    def __init__(self, secret: str, path: str, take: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """take: stores one update; raises StoreError when it could not."""
        self._secret = secret.encode()
        self._path = path
        self._take = take
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._busy: set[asyncio.BaseProtocol] = set()
        self.address = ""

    async def start(self, host: str, port: int) -> None:
        """Raises AdapterError when the port is taken."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post(self._path, self._receive)
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
            self._listening = await asyncio.get_running_loop().create_server(self._connection, host, port)
        except OSError as error:
            await self._runner.cleanup()
            raise _not_listening(host, port, error) from error
        self.address = "http://{}:{}".format(*self._listening.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        """One more than may be takes the place of the oldest on which no update is being stored."""
        server = cast("web.Server", cast(web.AppRunner, self._runner).server)
        open_ = [handler for handler in server.connections if handler.transport is not None]
        if len(open_) >= _MOST_CONNECTIONS:
            for handler in open_:
                if handler not in self._busy:
                    handler.force_close()
                    break
        return server()

    async def _receive(self, request: web.Request) -> web.Response:
        # Bytes that are no UTF-8 come as halves of surrogate pairs.
        given = request.headers.get(_HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._secret):
            return _refused(401, "wrong secret")
        self._busy.add(request.protocol)
        try:
            return await self._store(request)
        finally:
            self._busy.discard(request.protocol)

    async def _store(self, request: web.Request) -> web.Response:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return _refused(415, "send it as it is, not packed")
        try:
            async with asyncio.timeout(_LONGEST_BODY_S):
                body = await request.read()
        except TimeoutError:
            return _refused(408, "the body did not come in time")
        try:
            update = json.loads(body)
            if not isinstance(update, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            return _refused(400, "not an update")
        try:
            await self._take(update)
        except StoreError as error:
            _log.warning("Telegram: %s; it will send the update again", error)
            return web.Response(status=503, text="try again")
        return web.Response(text="ok")


def _not_listening(host: str, port: int, error: OSError) -> AdapterError:
    return AdapterError(
        f"[telegram] webhook: {host}:{port} can't be listened on: {error.strerror or error};"
        " set webhook_port to another number"
    )


def _refused(status: int, words: str) -> web.Response:
    response = web.Response(status=status, text=words)
    response.force_close()
    return response
