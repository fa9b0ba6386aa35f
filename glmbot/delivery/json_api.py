"""A platform's interface of JSON over HTTP, as adapters ask it, and the token that it gives for a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from glmbot.delivery.outlet import NotWritten, Unreachable
from glmbot.errors import AdapterError, PlatformRefused, outage
from glmbot.http.fields import Fields, as_fields, parsed

__all__ = ["AccessToken", "Answered", "JsonApi", "usable_for"]

_EARLIER_S = 300.0
_USUAL_LIFE_S, _LONGEST_LIFE_S = 7200, 24 * 3600


class Answered(NamedTuple):
    """`fields`: none of what is no JSON object, such as a proxy's page."""

    status: int
    fields: Fields
    headers: Mapping[str, str]


class JsonApi:
    """Close its `session` in the end."""

    def __init__(
        self, title: str, base: str, *, proxy: str | None, timeout_s: float = 30.0, most_bytes: int = 2**20
    ) -> None:
        """title: how errors name the platform. most_bytes: of an answer; the rest of a longer one is left."""
        self.base = base.rstrip("/")
        self.proxy = proxy
        self.date = ""
        """Of the last answer, as its headers have it."""
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s))
        self._title = title
        self._most = most_bytes

    async def request(self, method: str, path: str, **content: Any) -> Answered:
        """Raises Unreachable."""
        try:
            # A redirect would carry the token to wherever it leads.
            async with self.session.request(
                method, f"{self.base}{path}", proxy=self.proxy, allow_redirects=False, **content
            ) as answer:
                raw = b""
                while (room := self._most - len(raw)) and (more := await answer.content.read(room)):
                    raw += more
                self.date = answer.headers.get("Date", "")
                return Answered(answer.status, _fields(raw), answer.headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self._title}: {outage(error)}") from error


def _fields(raw: bytes) -> Fields:
    try:
        return as_fields(parsed(raw))
    except ValueError:
        return {}


class AccessToken:
    """Asked for when it is needed, and again before it ends; by one at a time."""

    def __init__(self, ask: Callable[[], Awaitable[tuple[str, float]]]) -> None:
        """ask: returns a token, and for how many seconds it is to be used."""
        self._ask = ask
        self._asking = asyncio.Lock()
        self._token = ""
        self._ends = 0.0

    async def current(self) -> str:
        """Raises what `ask` raises; so does `renew`."""
        async with self._asking:
            if asyncio.get_running_loop().time() >= self._ends:
                await self._renewed()
            return self._token

    async def renew(self) -> None:
        async with self._asking:
            await self._renewed()

    async def first(self, api: JsonApi, section: str) -> None:
        """At the start, where the operator may have to do something. Raises AdapterError."""
        try:
            await self.renew()
        except NotWritten as error:
            raise AdapterError(f"{error} ({api.base}); a proxy goes into [{section}] proxy") from error

    def refused(self, secret: PlatformRefused) -> PlatformRefused | Unreachable:
        """What to raise where the secret is refused: what was good before may be good again."""
        return Unreachable(str(secret)) if self._token else secret

    def forget(self) -> None:
        """It is refused: the next one who needs it asks anew."""
        self._ends = 0.0

    async def _renewed(self) -> None:
        self._token, lasts_s = await self._ask()
        self._ends = asyncio.get_running_loop().time() + lasts_s


def usable_for(lasts: object) -> float:
    """For how many seconds a token is to be used that lasts so many, as its platform says."""
    life = min(lasts, _LONGEST_LIFE_S) if type(lasts) is int and lasts > 0 else _USUAL_LIFE_S
    return max(life - _EARLIER_S, min(life, 60))
