"""HTTP to an OpenAI-compatible server: streams of events, within time limits, and the few questions besides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NoReturn

import aiohttp

from glmbot.engine.base import FinishReason
from glmbot.engine.openai_stream import Delta, StreamBroken, read_event, refusal
from glmbot.errors import EngineError

__all__ = ["FAILURES", "OpenAIClient", "ServerBusy"]

FAILURES = (aiohttp.ClientError, OSError, StreamBroken)
"""What a request can raise when the server is at fault; a TimeoutError is an OSError."""

# The request itself is wrong, so no other server would take it either.
_REFUSED = (400, 413, 422)
_LONGEST_LINE = 1 << 20
_LONGEST_BODY = 1 << 16
_USAGE_S = 2.0
_END = b"data: [DONE]"


class ServerBusy(Exception):
    """Any other status than 200. `again_after_s` is the server's own wish (Retry-After)."""

    def __init__(self, words: str, again_after_s: float | None) -> None:
        super().__init__(words)
        self.again_after_s = again_after_s


class OpenAIClient:
    """Times in seconds: to connect, until the first word, between two words."""

    def __init__(self, *, api_key: str, connect_s: float, first_token_s: float, next_token_s: float) -> None:
        self._api_key = api_key
        self._connect_s = connect_s
        self._first_token_s = first_token_s
        self._next_token_s = next_token_s
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            read_bufsize=_LONGEST_LINE,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def close(self) -> None:
        await self._http.close()

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncGenerator[Delta, None]:
        """POST `body`, and yield what comes until the server says that it is the end.

        Raises ServerBusy, EngineError for a request that no server would take, or one of FAILURES.
        """
        limit, ended = self._first_token_s, False
        async with asyncio.timeout(limit):
            # A redirection could carry the key elsewhere.
            response = await self._http.post(url, json=body, allow_redirects=False)
        async with response:
            if response.status != 200:
                async with asyncio.timeout(self._connect_s):
                    said = await response.content.read(_LONGEST_BODY)
                self._refused(response, said.decode("utf-8", "replace"))
            while True:
                try:
                    async with asyncio.timeout(limit):
                        line = await response.content.readline()
                except ValueError as error:
                    raise StreamBroken("an event is too long") from error
                except (aiohttp.ClientPayloadError, ConnectionError) as error:
                    raise StreamBroken("the connection broke in the middle of an answer") from error
                if not line:
                    return
                if line.strip() == _END:
                    if not ended:
                        yield Delta(finish=FinishReason.STOP)
                    return
                delta = read_event(line)
                if delta is None:
                    continue
                if delta.text:
                    limit = self._next_token_s
                if delta.finish is not None:
                    ended, limit = True, _USAGE_S
                yield delta

    async def ask(self, method: str, url: str, body: Any = None) -> Any:
        """The JSON that a server answers, in the time that connecting may take.

        Raises one of FAILURES, or ValueError for what is not JSON.
        """
        async with (
            asyncio.timeout(self._connect_s),
            self._http.request(method, url, json=body, allow_redirects=False, raise_for_status=True) as got,
        ):
            return await got.json(content_type=None)

    def _refused(self, response: aiohttp.ClientResponse, body: str) -> NoReturn:
        words = refusal(body)
        if self._api_key:
            words = words.replace(self._api_key, "[secret]")
        if response.status in _REFUSED:
            raise EngineError(f"{response.host} refused the request ({response.status}): {words}")
        seconds = response.headers.get("Retry-After", "")
        raise ServerBusy(
            f"answered {response.status}: {words}", float(seconds) if seconds.isdecimal() else None
        )
