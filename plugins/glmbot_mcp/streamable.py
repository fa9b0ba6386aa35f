"""A server at an address, over streamable HTTP: the SDK's transport, through a client with bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from glmbot.http.address_guard import AddressGuard, AddressRefused
from glmbot_mcp.metered import LARGEST_MESSAGE, Rate
from glmbot_mcp.settings import ServerSettings

__all__ = ["http_transport"]

_BYTES_A_SECOND, _MOST_BYTES = 8 * 2.0**20, 16 * 2.0**20
# An open stream says nothing for as long as a call takes.
_SILENCE_S = 3600.0


@asynccontextmanager
async def http_transport(
    settings: ServerSettings, guard: AddressGuard | None = None
) -> AsyncGenerator[TransportStreams]:
    """guard: of the addresses that may be asked. Raises OSError and UnicodeDecodeError for a token's file that
    can't be read."""
    token = await asyncio.to_thread(settings.secret)
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(settings.connect_s, read=_SILENCE_S),
            transport=_Bounded(httpx2.AsyncHTTPTransport(trust_env=False), guard),
            trust_env=False,
        ) as client,
        streamable_http_client(
            settings.url, http_client=client, max_sse_event_size=LARGEST_MESSAGE
        ) as streams,
    ):
        yield streams


class _Bounded(httpx2.AsyncBaseTransport):
    """No answer is longer, comes faster, or is unpacked."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, guard: AddressGuard | None) -> None:
        self._inner = inner
        self._guard = guard
        self._rate = Rate(_BYTES_A_SECOND, _MOST_BYTES)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        asked = request if self._guard is None else await _pinned(request, self._guard)
        response = await self._inner.handle_async_request(asked)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is packed, which nobody asked for", request=request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101
        events = response.headers.get("Content-Type", "").lower().startswith("text/event-stream")
        response.stream = _Stream(response.stream, self._rate, None if events else LARGEST_MESSAGE)
        # A cookie would be sent with all that follows.
        if "Set-Cookie" in response.headers:
            del response.headers["Set-Cookie"]
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _pinned(request: httpx2.Request, guard: AddressGuard) -> httpx2.Request:
    """To an address that was looked at: a name that answers differently the second time gains nothing."""
    host = request.url.host
    port = request.url.port or {"http": 80, "https": 443}.get(request.url.scheme, 0)
    try:
        addresses = await guard.addresses(host, port)
    except AddressRefused as error:
        raise httpx2.ConnectError(str(error), request=request) from error
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=addresses[0]),
        # The host that is named stays.
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, rate: Rate, largest: int | None) -> None:
        self._inner = inner
        self._rate = rate
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._inner:
            size += len(piece)
            if self._largest is not None and size > self._largest:
                raise httpx2.ReadError(f"the answer has more than {self._largest // 2**20} MiB")
            if (wait := self._rate.take(len(piece))) > 0:
                await asyncio.sleep(wait)
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
