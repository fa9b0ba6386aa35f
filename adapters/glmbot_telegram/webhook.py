"""Receiving updates by webhook: a small HTTP server that Telegram posts to, through the operator's HTTPS proxy.

https://core.telegram.org/bots/api#setwebhook: every request carries the secret in a header; one that is not
answered with 2xx is sent again, so an update is confirmed only once it is stored.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from glmbot.errors import AdapterError, StoreError

__all__ = ["Webhook"]

_log = logging.getLogger(__name__)

_HEADER = "X-Telegram-Bot-Api-Secret-Token"
_LARGEST_BODY = 2**20


class Webhook:
    def __init__(self, secret: str, path: str, take: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """take: stores one update; raises StoreError when it could not."""
        self._secret = secret.encode()
        self._path = path
        self._take = take
        self._runner: web.AppRunner | None = None
        self.address = ""

    async def start(self, host: str, port: int) -> None:
        """Raises AdapterError when the port is taken."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post(self._path, self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise AdapterError(
                f"[telegram] webhook: {host}:{port} can't be listened on: {error.strerror or error};"
                " set webhook_port to another number"
            ) from error
        self.address = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get(_HEADER, "").encode(), self._secret):
            return web.Response(status=401, text="wrong secret")
        try:
            update = json.loads(await request.read())
            if not isinstance(update, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            return web.Response(status=400, text="not an update")
        try:
            await self._take(update)
        except StoreError as error:
            _log.warning("Telegram: %s; it will send the update again", error)
            return web.Response(status=503, text="try again")
        return web.Response(text="ok")
