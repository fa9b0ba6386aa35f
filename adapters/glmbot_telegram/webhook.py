"""Receiving updates by webhook: a route that Telegram posts to, through the operator's HTTPS proxy.

https://core.telegram.org/bots/api#setwebhook: every request carries the secret in a header; one that is not
answered with 2xx is sent again, so an update is confirmed only once it is stored.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from glmbot.http.routes import Address, HttpAnswer, HttpCall, Route

__all__ = ["path_of", "webhook_route"]

_HEADER = "X-Telegram-Bot-Api-Secret-Token"


def path_of(url: str) -> str:
    """Where the server behind the public address is asked."""
    return unquote(urlsplit(url).path) or "/"


def webhook_route(
    url: str, secret: str, door: Address | None, take: Callable[[dict[str, Any]], Awaitable[bool]]
) -> Route:
    """take: stores one update; False when it can't yet. Raises StoreError when it could not."""

    def admits(headers: Mapping[str, str]) -> bool:
        # Bytes that are no UTF-8 come as halves of surrogate pairs.
        given = headers.get(_HEADER, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, secret.encode())

    async def handle(call: HttpCall) -> HttpAnswer:
        try:
            update = json.loads(call.body)
            if not isinstance(update, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            return HttpAnswer(400, "not an update")
        return HttpAnswer() if await take(update) else HttpAnswer(503, "not yet")

    return Route(path_of(url), admits, handle, door=door)
