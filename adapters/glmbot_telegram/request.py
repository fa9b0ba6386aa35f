"""Requests to the Bot API: only the Bot API itself is believed, and no answer is read without end.

A proxy or a firewall on the way answers with pages of its own, with 403, 404 or 502. python-telegram-bot goes by
the number alone and would take them for a user's block or a wrong token.
https://core.telegram.org/bots/api#making-requests: an answer is a JSON object with a field `ok`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx
from telegram.error import BadRequest, NetworkError
from telegram.request import HTTPXRequest

from glmbot.delivery.outlet import page_is_final

__all__ = ["BotApiRequest"]

# A hundred updates of the largest kind are well below.
_LARGEST_ANSWER = 32 * 2**20
# Beside the time that a poll waits: what comes drop by drop ends some time.
_LONGEST_REQUEST_S = 120.0


class BotApiRequest(HTTPXRequest):
    def __init__(self, proxy: str | None = None) -> None:
        """proxy: http:// or https://, or none."""
        # Which proxy is for this address was decided by whoever gives it.
        options = {
            "event_hooks": {"response": [_bound]},
            "headers": {"Accept-Encoding": "identity"},
            "trust_env": False,
        }
        super().__init__(connection_pool_size=32, pool_timeout=30, proxy=proxy, httpx_kwargs=options)

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        """Raises NetworkError for what is no answer of the Bot API, BadRequest for a file that is too large."""
        try:
            async with asyncio.timeout(_LONGEST_REQUEST_S):
                code, payload = await super().do_request(*args, **kwargs)
        except TimeoutError as error:
            raise NetworkError(f"no whole answer within {_LONGEST_REQUEST_S:.0f} s") from error
        answer = _answer(payload)
        if answer is None:
            kind = BadRequest if page_is_final(code) else NetworkError
            raise kind(f"something on the way answered {code}, not the Bot API")
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise BadRequest(str(answer.get("description")))
        return code, payload


async def _bound(response: httpx.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # Some kilobytes can become gigabytes.
        raise httpx.DecodingError("an answer that is packed although none may be", request=response.request)
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Bounded(response.stream)


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > _LARGEST_ANSWER:
                raise httpx.ReadError(f"an answer of more than {_LARGEST_ANSWER >> 20} MiB")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _answer(payload: bytes) -> dict[str, Any] | None:
    try:
        answer: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(answer, dict) and isinstance(answer.get("ok"), bool)
    if not is_one or (answer["ok"] and "result" not in answer):
        return None
    return answer
