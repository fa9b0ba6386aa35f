"""HTTP to an OpenAI-compatible server: streams of events, and the few questions besides.

The server is not trusted. What it sends is bounded in size (a line, a body, a whole stream, the headers) and in
time (to connect, until the first word, between two words), nothing is decompressed, no redirection is followed and
no cookie is kept.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from glmbot.engine.base import FinishReason
from glmbot.engine.openai_stream import Delta, StreamBroken, read_event, refusal
from glmbot.errors import EngineError

__all__ = ["FAILURES", "OpenAIClient", "RequestRefused", "ServerBusy", "retry_after"]

FAILURES = (aiohttp.ClientError, OSError, StreamBroken)
"""What a request can raise when the server is at fault; a TimeoutError is an OSError."""

# The request itself is wrong, so no other server would take it either.
_REFUSED = (400, 413, 422)
_LONGEST_LINE = 1 << 20
_LONGEST_REFUSAL = 1 << 16
_LONGEST_ANSWER = 4 << 20
_STREAM_BYTES, _STREAM_BYTES_A_TOKEN = 4 << 20, 4 << 10
_USAGE_S = 2.0
_END = b"data: [DONE]"
# Who sends comments is alive, and may have a line of its own; but not for ever.
_COMMENTS_COUNT = 4
# Others must come to their turn, however fast a server talks.
_TURN_S = 0.005
_LONGEST_PAUSE_S = 300.0
_NO_STREAM = ("text/html", "application/json")


class ServerBusy(Exception):
    """Any other status than 200. `again_after_s` is the server's own wish (Retry-After)."""

    def __init__(self, status: int, words: str, again_after_s: float | None) -> None:
        super().__init__(words)
        self.status = status
        self.again_after_s = again_after_s


class RequestRefused(EngineError):
    """With a status that says that no server would take it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def retry_after(header: str, now: float) -> float | None:
    """Seconds, from a number of them or a date (RFC 9110, 10.2.3), at most five minutes; None for anything else.

    `now` is Unix time.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text[:20])
    else:
        try:
            date = parsedate_to_datetime(text[:60])
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_PAUSE_S) if math.isfinite(seconds) else None


class OpenAIClient:
    """Times in seconds: to connect, until the first word, between two words."""

    def __init__(self, *, api_key: str, connect_s: float, first_token_s: float, next_token_s: float) -> None:
        self._api_key = api_key
        self._connect_s = connect_s
        self._first_token_s = first_token_s
        self._next_token_s = next_token_s
        self._http = aiohttp.ClientSession(
            headers={
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            },
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 16,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def close(self) -> None:
        await self._http.close()

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncGenerator[Delta, None]:
        """POST `body`, and yield what comes until the server says that it is the end.

        Raises ServerBusy, RequestRefused or one of FAILURES.
        """
        async with asyncio.timeout(self._first_token_s):
            # A redirection could carry the key elsewhere.
            response = await self._http.post(url, json=body, allow_redirects=False)
        async with response:
            if response.status != 200:
                self._refused(response, await self._beginning(response))
            _check_encoding(response)
            if response.content_type in _NO_STREAM:
                said = refusal(await self._beginning(response))
                raise StreamBroken(f"answered {response.content_type} and no stream of events: {said}")
            async for delta in self._deltas(response, int(body.get("max_tokens", 0))):
                yield delta

    async def _deltas(self, response: aiohttp.ClientResponse, tokens: int) -> AsyncGenerator[Delta, None]:
        loop = asyncio.get_running_loop()
        limit, ended = self._first_token_s, False
        now = turned = loop.time()
        given_up_at = now + _COMMENTS_COUNT * limit
        left = _STREAM_BYTES + _STREAM_BYTES_A_TOKEN * tokens
        while True:
            try:
                async with asyncio.timeout_at(min(now + limit, given_up_at)):
                    line = await response.content.readline(max_line_length=_LONGEST_LINE)
            except (ValueError, HttpProcessingError) as error:
                raise StreamBroken("an event is too long") from error
            except (aiohttp.ClientPayloadError, ConnectionError) as error:
                raise StreamBroken("the connection broke in the middle of an answer") from error
            if not line:
                return
            left -= len(line)
            if left < 0:
                raise StreamBroken("it sends far more than it was asked for")
            if line.strip() == _END:
                if not ended:
                    yield Delta(finish=FinishReason.STOP)
                return
            now = loop.time()
            if now > given_up_at:
                # Lines that are there already let no timer come to its turn.
                raise TimeoutError
            delta = read_event(line)
            if delta is not None:
                if delta.says_more:
                    limit = self._next_token_s
                    given_up_at = now + _COMMENTS_COUNT * limit
                if delta.finish is not None:
                    ended, limit = True, _USAGE_S
                    given_up_at = now + limit
                yield delta
            if now - turned > _TURN_S:
                await asyncio.sleep(0)
                turned = loop.time()

    async def ask(self, method: str, url: str, body: Any = None) -> Any:
        """The JSON that a server answers, in the time that connecting may take.

        Raises one of FAILURES, or ValueError for what is not JSON.
        """
        async with (
            asyncio.timeout(self._connect_s),
            self._http.request(method, url, json=body, allow_redirects=False) as got,
        ):
            if got.status != 200:
                raise StreamBroken(f"answered {got.status} to {method} {got.url.path}")
            _check_encoding(got)
            data = bytearray()
            async for chunk in got.content.iter_any():
                data += chunk
                if len(data) > _LONGEST_ANSWER:
                    raise StreamBroken(f"answered more than {_LONGEST_ANSWER >> 20} MiB to {got.url.path}")
        try:
            return json.loads(data)
        except RecursionError as error:
            raise ValueError("JSON of too many levels") from error

    async def _beginning(self, response: aiohttp.ClientResponse) -> str:
        """Of a body that is no stream, as far as it is there within the time to connect."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            return ""
        data = bytearray()
        try:
            async with asyncio.timeout(self._connect_s):
                while len(data) < _LONGEST_REFUSAL and (
                    part := await response.content.read(_LONGEST_REFUSAL - len(data))
                ):
                    data += part
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            pass
        return data.decode("utf-8", "replace")

    def _refused(self, response: aiohttp.ClientResponse, body: str) -> NoReturn:
        if 300 <= response.status < 400:
            raise StreamBroken(f"answered {response.status}: it wants to send us elsewhere")
        if self._api_key:
            body = body.replace(self._api_key, "[secret]")
        words = refusal(body)
        if response.status in _REFUSED:
            raise RequestRefused(
                response.status, f"{response.host} refused the request ({response.status}): {words}"
            )
        wish = retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC).timestamp())
        raise ServerBusy(response.status, f"answered {response.status}: {words}", wish)


def _check_encoding(response: aiohttp.ClientResponse) -> None:
    """What is compressed was not asked for, and may be a thousand times as long. Raises StreamBroken."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise StreamBroken(f"it sends {encoding[:20]!r} where nothing compressed is taken")
