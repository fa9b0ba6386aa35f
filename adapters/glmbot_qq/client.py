"""QQ's interfaces over HTTP, with the bot's access token, which ends and is asked for again.

https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/access-token.html. The official package for Python checks no
certificates, takes no proxy and no other address, and tells a refusal's words without its code.
"""

from __future__ import annotations

import time
from urllib.parse import quote

from glmbot.delivery.json_api import AccessToken, JsonApi
from glmbot.delivery.outlet import NotWritten, Unreachable
from glmbot.delivery.recent import Recent
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.fields import Fields
from glmbot.http.replays import clock_ahead
from glmbot_qq.refusals import IN_AUDIT, NOT_FROM_HERE, TOKEN_ENDED, WRONG_APP, Coded, codes_of, refused
from glmbot_qq.settings import QQSettings

__all__ = ["Client", "quoted"]

# "timeout 建议设置最低为 5 秒，避免出现实际消息已发送成功，但没接收到同步的结果返回".
_TIMEOUT_S = 20.0
_LARGEST_ANSWER = 2**20
_USUAL_LIFE_S = 7200
# "在上一个 access_token 接近过期时间 60 秒内，获取 access_token 时，会获得一个新的": before that it is the
# same.
_NEW_WITHIN_S = 50
_SOON_S = 5
_CLOSED_S, _MOST_CLOSED = 3600.0, 1000


def quoted(part: str) -> str:
    """An id as a part of a path."""
    return quote(part, safe="")


class Client:
    def __init__(self, settings: QQSettings) -> None:
        """Raises PlatformRefused where the AppID or the AppSecret is missing, AdapterError for no proxy."""
        if not settings.app_id:
            raise PlatformRefused("[qq] app_id is not set: copy it from https://q.qq.com")
        self.app_id = settings.app_id
        self.secret = settings.read_token("qq")
        self.api = self._made(settings, settings.api)
        self._tokens = self._made(settings, settings.token_base_url)
        self._token = AccessToken(self._ask_for_token)
        self.clock_ahead_s = 0.0
        """Of QQ's, as the last answer told it."""
        self._closed = Recent[str, float](_MOST_CLOSED)

    @staticmethod
    def _made(settings: QQSettings, base: str) -> JsonApi:
        proxy = settings.proxy_for(base)
        return JsonApi("QQ", base, proxy=proxy, timeout_s=_TIMEOUT_S, most_bytes=_LARGEST_ANSWER)

    async def close(self) -> None:
        await self.api.session.close()
        await self._tokens.session.close()

    async def log_in(self) -> Fields:
        """What QQ says of the bot. Raises AdapterError."""
        return await self._at_start("GET", "/users/@me")

    async def gateway(self) -> str:
        """The address of the gateway. Raises AdapterError."""
        found = await self._at_start("GET", "/gateway/bot")
        url = found.get("url")
        if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
            raise AdapterError("QQ gives no address of its gateway")
        return url

    async def token(self) -> str:
        """As the gateway wants it. Raises NotWritten, PlatformRefused."""
        return f"QQBot {await self._token.current()}"

    def forget_token(self) -> None:
        self._token.forget()

    def close_active(self, chat: str) -> None:
        """QQ has refused a message of the bot's own there: for quota, or since somebody has closed them."""
        self._closed.put(chat, time.monotonic() + _CLOSED_S)

    def may_be_active(self, chat: str) -> bool:
        until = self._closed.get(chat)
        return until is None or until <= time.monotonic()

    async def call(self, method: str, path: str, body: Fields | None = None) -> Fields:
        """Raises what `glmbot.delivery.outlet` names."""
        for again in (False, True):
            content = {} if body is None else {"json": body}
            headers = {"Authorization": await self.token()}
            status, found, said = await self.api.request(method, path, headers=headers, **content)
            self.clock_ahead_s = clock_ahead(said.get("Date", ""), time.time())
            codes = codes_of(found)
            ended = TOKEN_ENDED.intersection(codes) or (status == 401 and not codes)
            if ended and not again:
                self._token.forget()
                continue
            if status < 400 and (not codes or IN_AUDIT.intersection(codes)):
                return found
            raise refused(status, found, said.get("X-Tps-trace-ID", ""))
        raise Unreachable("QQ: the access token is refused")

    async def _at_start(self, method: str, path: str) -> Fields:
        try:
            return await self.call(method, path)
        except NotWritten as error:
            if any(str(code) in str(error) for code in NOT_FROM_HERE):
                raise PlatformRefused(
                    "[qq] QQ takes nothing from this machine: add its public address to the IP allow-list of the"
                    f" development settings at https://q.qq.com ({error})"
                ) from error
            if isinstance(error, Coded):
                raise PlatformRefused(f"[qq] QQ refuses the bot: {error}") from error
            raise AdapterError(f"{error} ({self.api.base}); a proxy goes into [qq] proxy") from error

    async def _ask_for_token(self) -> tuple[str, float]:
        """Its refusals come with the status 200, and a code."""
        body = {"appId": self.app_id, "clientSecret": self.secret}
        status, found, said = await self._tokens.request("POST", "/app/getAppAccessToken", json=body)
        token, codes = found.get("access_token"), codes_of(found)
        if WRONG_APP.intersection(codes):
            wrong = PlatformRefused(
                "[qq] app_id and token: QQ does not know this AppID with this AppSecret"
                f" ({codes[0]}); copy both from https://q.qq.com"
            )
            raise self._token.refused(wrong)
        if not isinstance(token, str) or not token:
            raise refused(max(status, 400), found, said.get("X-Tps-trace-ID", ""))
        life = _seconds(found.get("expires_in"))
        return token, max(life - _NEW_WITHIN_S, _SOON_S)


def _seconds(given: object) -> int:
    """QQ writes this number as text."""
    text = str(given) if type(given) in (int, str) else ""
    right = text.isascii() and text.isdigit() and len(text) <= 6
    return int(text) if right and int(text) > 0 else _USUAL_LIFE_S
