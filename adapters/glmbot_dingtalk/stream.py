"""DingTalk's Stream mode: messages come through a connection that the bot opens, each answered once it is stored.

https://open.dingtalk.com/document/orgapp/stream, https://github.com/open-dingtalk/dingtalk-stream-sdk-python
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import aiohttp

from glmbot.errors import AdapterError, StoreError, outage
from glmbot.http.connection import LastingConnection
from glmbot.http.fields import as_object, parsed
from glmbot.http.quiet import Quiet
from glmbot_dingtalk.client import Client

__all__ = ["Stream"]

_log = logging.getLogger(__name__)

_OPENS_S = 30.0
_BEAT_S = 30.0
_LARGEST_FRAME = 2**20

Take = Callable[[str, Mapping[str, Any], str], Awaitable[None]]
"""Stores what came, by its topic and the id of its frame. Raises StoreError."""


class Stream(LastingConnection):
    def __init__(self, client: Client, take: Take) -> None:
        super().__init__()
        self._quiet = Quiet()
        self._client = client
        self._take = take

    async def open(self) -> None:
        """Raises AdapterError."""
        endpoint, ticket = await self._client.open_stream()
        try:
            async with asyncio.timeout(_OPENS_S):
                self._socket = await self._client.api.session.ws_connect(
                    endpoint,
                    params={"ticket": ticket},
                    proxy=self._client.api.proxy,
                    max_msg_size=_LARGEST_FRAME,
                    heartbeat=_BEAT_S,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdapterError(f"DingTalk: no connection of Stream mode ({outage(error)})") from error

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                frame = as_object(parsed(message.data))
                headers = frame.get("headers")
                topic = str(headers.get("topic")) if isinstance(headers, dict) else ""
                if frame.get("type") == "SYSTEM" and topic == "disconnect":
                    await socket.close()
                    return
                await socket.send_json(await self._answer(frame, cast(dict[str, Any], headers), topic))
            except (aiohttp.ClientError, OSError):
                return
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                if self._quiet.lets(type(error).__name__):
                    _log.warning(
                        "DingTalk: a frame that could not be read is left out (%s)", type(error).__name__
                    )

    async def _answer(
        self, frame: Mapping[str, Any], headers: Mapping[str, Any], topic: str
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "code": 200,
            "headers": {"messageId": str(headers.get("messageId")), "contentType": "application/json"},
            "message": "OK",
            "data": json.dumps({"response": {}}),
        }
        if frame.get("type") == "SYSTEM":
            return answer | {"data": frame.get("data")}
        if frame.get("type") == "CALLBACK":
            try:
                await self._take(topic, as_object(parsed(frame["data"])), str(headers.get("messageId")))
            except StoreError as error:
                _log.warning("DingTalk: what came could not be stored, and comes again: %s", error)
                return answer | {"code": 500, "message": "not stored"}
        return answer
