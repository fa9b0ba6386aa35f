"""Feishu's open platform over HTTP, with the tenant's token, which ends and is asked for again.

The official package for Python has handlers that can't wait for a store, blocks the loop while it asks for a
token, and takes seconds and 170 MB to import; the interface is plain HTTP.
https://open.feishu.cn/document/server-docs/api-call-guide/calling-process/overview
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import aiohttp

from glmbot.delivery.outlet import NotWritten, Unreachable
from glmbot.errors import AdapterError, PlatformRefused
from glmbot_feishu.refusals import TOKEN_ENDED, WRONG_APP, refused
from glmbot_feishu.settings import FeishuSettings

__all__ = ["Client", "Fields"]

Fields = Mapping[str, Any]

_TIMEOUT_S = 30.0
_LARGEST_ANSWER = 4 * 2**20
# Before the token's end another is asked for; within half an hour of it Feishu gives a new one.
_EARLIER_S = 600.0
_LONGEST_WAIT_S = 3600.0
_SCOPES = re.compile(r"\[([a-z:_.,/ A-Z]{3,300})\]")


class Client:
    def __init__(self, settings: FeishuSettings) -> None:
        """Raises PlatformRefused where the app's id or secret is missing, AdapterError for no proxy."""
        if not settings.app_id:
            raise PlatformRefused("[feishu] app_id is not set: copy it from https://open.feishu.cn/app")
        self._settings = settings
        self._secret = settings.read_token("feishu")
        self._base = settings.api_base_url.rstrip("/")
        self.proxy = settings.proxy_for(self._base)
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        self._token = ""
        self._ends = 0.0
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        await self.session.close()

    async def log_in(self) -> Fields:
        """What is known of the bot. Raises AdapterError."""
        try:
            await self._ask_for_token()
            found = await self.call("GET", "/open-apis/bot/v3/info")
        except NotWritten as error:
            raise AdapterError(f"{error} ({self._base}); a proxy goes into [feishu] proxy") from error
        bot = found.get("bot")
        return cast(Fields, bot) if isinstance(bot, Mapping) else {}

    async def endpoint(self) -> Fields:
        """Where the long connection is, and how often it wants to be pinged. Raises AdapterError."""
        body = {"AppID": self._settings.app_id, "AppSecret": self._secret}
        try:
            status, found = await self._request("POST", "/callback/ws/endpoint", json=body)
        except NotWritten as error:
            raise AdapterError(str(error)) from error
        code = found.get("code")
        data = found.get("data")
        if code in WRONG_APP:
            raise self._wrong_app(code)
        if code != 0 or not isinstance(data, Mapping):
            raise AdapterError(f"Feishu gives no long connection: {code or status} {_words(found)}")
        return cast(Fields, data)

    async def call(
        self, method: str, path: str, *, form: Callable[[], aiohttp.FormData] | None = None, **content: Any
    ) -> Fields:
        """The answer's data, or the answer where it has none. Raises what `glmbot.delivery.outlet` names.

        form: makes one for each try.
        """
        for again in (False, True):
            token = await self._current_token()
            headers = {"Authorization": f"Bearer {token}"}
            data = {"data": form()} if form is not None else {}
            status, found = await self._request(method, path, headers=headers, **content, **data)
            code = found.get("code")
            if code in TOKEN_ENDED and not again:
                self._ends = 0.0
                continue
            if status < 400 and code == 0:
                data = found.get("data")
                return cast(Fields, data) if isinstance(data, Mapping) and data else found
            number = code if type(code) is int else 0
            raise refused(status, number, _words(found), _seconds(found.get("reset")))
        raise Unreachable("Feishu: the token is refused")

    async def _current_token(self) -> str:
        async with self._asking:
            if asyncio.get_running_loop().time() >= self._ends:
                await self._renew()
        return self._token

    async def _ask_for_token(self) -> None:
        """Raises PlatformRefused for a wrong app."""
        async with self._asking:
            await self._renew()

    async def _renew(self) -> None:
        body = {"app_id": self._settings.app_id, "app_secret": self._secret}
        path = "/open-apis/auth/v3/tenant_access_token/internal"
        status, found = await self._request("POST", path, json=body)
        token, code = found.get("tenant_access_token"), found.get("code")
        if code in WRONG_APP:
            error = self._wrong_app(code)
            if not self._token:
                raise error
            raise Unreachable(str(error))
        if code != 0 or not isinstance(token, str):
            raise refused(status, code if type(code) is int else 0, _words(found), 0.0)
        self._token = token
        lasts = _seconds(found.get("expire"))
        self._ends = asyncio.get_running_loop().time() + max(lasts - _EARLIER_S, min(lasts, 60.0))

    def _wrong_app(self, code: object) -> PlatformRefused:
        return PlatformRefused(
            f"[feishu] app_id and token: Feishu does not know this App ID with this App Secret ({code}); copy both"
            " from https://open.feishu.cn/app"
        )

    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **content: Any
    ) -> tuple[int, dict[str, Any]]:
        """Status and fields, none of a page. Raises Unreachable."""
        try:
            async with self.session.request(
                method,
                f"{self._base}{path}",
                headers=headers,
                proxy=self.proxy,
                allow_redirects=False,
                **content,
            ) as answer:
                raw = await answer.content.read(_LARGEST_ANSWER)
                while (room := _LARGEST_ANSWER - len(raw)) and (more := await answer.content.read(room)):
                    raw += more
                fields = _object(raw)
                fields.setdefault("reset", answer.headers.get("x-ogw-ratelimit-reset"))
                return answer.status, fields
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"Feishu: {type(error).__name__}") from error


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _words(found: Fields) -> str:
    """Feishu's own, short; for a scope that is missing its name."""
    words = found.get("msg")
    said = " ".join(words.split()) if isinstance(words, str) else ""
    if (scopes := _SCOPES.search(said)) is not None and "scope" in said.lower():
        return (
            f"a permission is missing, one of {scopes[1]}: add it at https://open.feishu.cn/app, and publish"
        )
    return said[:200]


def _seconds(given: object) -> float:
    try:
        wait = float(given)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return 0.0 if math.isnan(wait) else min(max(wait, 0.0), 24 * _LONGEST_WAIT_S)
