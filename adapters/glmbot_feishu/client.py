"""Feishu's open platform over HTTP, with the tenant's token, which ends and is asked for again.

The official package for Python has handlers that can't wait for a store, blocks the loop while it asks for a
token, and takes seconds and 170 MB to import; the interface is plain HTTP.
https://open.feishu.cn/document/server-docs/api-call-guide/calling-process/overview
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import aiohttp

from glmbot.delivery.json_api import AccessToken, JsonApi
from glmbot.delivery.outlet import NotWritten, Unreachable
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.fields import Fields
from glmbot_feishu.refusals import TOKEN_ENDED, WRONG_APP, refused
from glmbot_feishu.settings import FeishuSettings

__all__ = ["Client", "Fields"]

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
        base = settings.api_base_url
        self.api = JsonApi(
            "Feishu", base, proxy=settings.proxy_for(base), timeout_s=_TIMEOUT_S, most_bytes=_LARGEST_ANSWER
        )
        self._token = AccessToken(self._ask_for_token)

    async def close(self) -> None:
        await self.api.session.close()

    async def log_in(self) -> Fields:
        """What is known of the bot. Raises AdapterError."""
        try:
            await self._token.renew()
            found = await self.call("GET", "/open-apis/bot/v3/info")
        except NotWritten as error:
            raise AdapterError(f"{error} ({self.api.base}); a proxy goes into [feishu] proxy") from error
        bot = found.get("bot")
        return cast(Fields, bot) if isinstance(bot, Mapping) else {}

    async def endpoint(self) -> Fields:
        """Where the long connection is, and how often it wants to be pinged. Raises AdapterError."""
        body = {"AppID": self._settings.app_id, "AppSecret": self._secret}
        try:
            status, found, _ = await self.api.request("POST", "/callback/ws/endpoint", json=body)
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

        form: of an upload; makes one for each try.
        """
        for again in (False, True):
            headers = {"Authorization": f"Bearer {await self._token.current()}"}
            data = {"data": form()} if form is not None else {}
            status, found, told = await self.api.request(method, path, headers=headers, **content, **data)
            code = found.get("code")
            if code in TOKEN_ENDED and not again:
                self._token.forget()
                continue
            if status < 400 and code == 0:
                data = found.get("data")
                return cast(Fields, data) if isinstance(data, Mapping) and data else found
            number = code if type(code) is int else 0
            wait = _seconds(told.get("x-ogw-ratelimit-reset"))
            raise refused(status, number, _words(found), retry_after=wait, file=form is not None)
        raise Unreachable("Feishu: the token is refused")

    async def _ask_for_token(self) -> tuple[str, float]:
        """Raises PlatformRefused for a wrong app."""
        body = {"app_id": self._settings.app_id, "app_secret": self._secret}
        path = "/open-apis/auth/v3/tenant_access_token/internal"
        status, found, _ = await self.api.request("POST", path, json=body)
        token, code = found.get("tenant_access_token"), found.get("code")
        if code in WRONG_APP:
            raise self._token.refused(self._wrong_app(code))
        if code != 0 or not isinstance(token, str):
            raise refused(status, code if type(code) is int else 0, _words(found))
        lasts = _seconds(found.get("expire"))
        return token, max(lasts - _EARLIER_S, min(lasts, 60.0))

    def _wrong_app(self, code: object) -> PlatformRefused:
        return PlatformRefused(
            f"[feishu] app_id and token: Feishu does not know this App ID with this App Secret ({code}); copy both"
            " from https://open.feishu.cn/app"
        )


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
