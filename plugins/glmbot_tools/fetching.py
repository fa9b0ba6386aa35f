"""One GET behind the address guard, at most so large, so long and so far: no cookies, no proxy, no other host's
word taken for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from glmbot.http.address_guard import AddressGuard, AddressRefused
from glmbot_tools.turns import Turns

__all__ = ["FetchFailed", "Fetched", "Fetcher"]

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_USER_AGENT = "glmbot (reads a page for a person)"


class FetchFailed(Exception):
    """Its words are for whoever asked."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """`kind`: as "text/html". `charset`: as the server says, "" for nothing."""

    url: str
    kind: str
    charset: str
    body: bytes


class Fetcher:
    def __init__(
        self,
        guard: AddressGuard,
        *,
        timeout_s: float = 20.0,
        most_bytes: int = 2_000_000,
        at_once: int = 4,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """most_bytes: of a body, also once it is unpacked. at_once: with one of each person; the others wait,
        within their own time."""
        self._guard = guard
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._turns = Turns(at_once)
        self._tls = tls

    async def get(self, person: str, address: str, accept: str) -> Fetched:
        """Raises FetchFailed."""
        try:
            async with asyncio.timeout(self._timeout_s), self._turns.turn(person):
                return await self._followed(address, accept)
        except TimeoutError as error:
            raise FetchFailed(f"there was no whole answer in {self._timeout_s:g} seconds") from error
        except AddressRefused as error:
            raise FetchFailed(str(error)) from error
        except (ClientError, OSError, ValueError, zlib.error) as error:
            refused = error.__cause__ or error.__context__
            if isinstance(refused, AddressRefused):
                raise FetchFailed(str(refused)) from error
            raise FetchFailed(f"the server could not be asked ({type(error).__name__})") from error

    async def _followed(self, address: str, accept: str) -> Fetched:
        url = self._guard.url(address)
        async with self._session(accept) as session:
            for _ in range(_MOST_REDIRECTS + 1):
                async with session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await self._read(url, response)
                    url = self._guard.url(_next(url, response.headers.get("Location", "")))
        raise FetchFailed(f"the page sends on more than {_MOST_REDIRECTS} times")

    @asynccontextmanager
    async def _session(self, accept: str) -> AsyncGenerator[ClientSession]:
        def made(information: Any) -> socket.socket:
            # The last word, whatever the client took for the address.
            family, kind, protocol, _, target = information
            self._guard.check_address(str(target[0]))
            return socket.socket(family, kind, protocol)

        tls: Mapping[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        connector = TCPConnector(
            resolver=_Resolver(self._guard), use_dns_cache=False, force_close=True, socket_factory=made, **tls
        )
        headers = {"User-Agent": _USER_AGENT, "Accept": accept, "Accept-Encoding": "gzip"}
        async with ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            headers=headers,
            timeout=ClientTimeout(total=self._timeout_s),
            trust_env=False,
            # Unpacked below, no further than it may go.
            auto_decompress=False,
        ) as session:
            yield session

    async def _read(self, url: URL, response: ClientResponse) -> Fetched:
        if response.status != 200:
            raise FetchFailed(f"the server answers with status {response.status}")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise FetchFailed("the page is packed in a way that was not asked for")
        packed = encoding not in ("identity", "")
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None
        body = bytearray()
        received = 0
        async for piece in response.content.iter_chunked(65_536):
            received += len(piece)
            # One byte more than there may be tells a whole page from one that goes on.
            left = self._most_bytes + 1 - len(body)
            body += piece[:left] if unpack is None else unpack.decompress(piece, left)
            if len(body) > self._most_bytes or received > self._most_bytes:
                raise FetchFailed(f"the page has more than {self._most_bytes:,} bytes")
        return Fetched(str(url), response.content_type.lower(), (response.charset or "")[:40], bytes(body))


class _Resolver(AbstractResolver):
    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._guard.addresses(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for each in found
        ]

    async def close(self) -> None:
        pass


def _next(url: URL, location: str) -> str:
    if not location or "\\" in location:
        raise FetchFailed("the page sends on to what is no address")
    # What is written there is checked before anything is made of it.
    return location if "://" in location[:16] else str(url.join(URL(location[:2000])))
