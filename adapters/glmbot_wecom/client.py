"""WeCom's interfaces over HTTP, as an application asks them, with its token, which ends and is asked for again.

https://developer.work.weixin.qq.com/document/path/91039. The token stands in the address of each request, so
no error tells an address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp

from glmbot.delivery.json_api import AccessToken, JsonApi, usable_for
from glmbot.delivery.outlet import Unreachable
from glmbot.errors import PlatformRefused
from glmbot.http.fields import Fields
from glmbot_wecom.refusals import TOKEN_ENDED, WRONG_SECRET, explained, refused
from glmbot_wecom.settings import WeComSettings

__all__ = ["Client", "code_in", "words_in"]


class Client:
    def __init__(self, settings: WeComSettings) -> None:
        """Raises PlatformRefused where the Secret is missing, AdapterError for no proxy."""
        self.corp, self.agent = settings.corp_id, settings.agent_id
        self._secret = settings.read_token("wecom")
        base = settings.api_base_url
        self.api = JsonApi("WeCom", base, proxy=settings.proxy_for(base))
        self._token = AccessToken(self._ask_for_token)

    async def close(self) -> None:
        await self.api.session.close()

    async def log_in(self) -> None:
        """Raises AdapterError."""
        await self._token.first(self.api, "wecom")

    async def about(self) -> Fields:
        """The application's name and its visible range. Raises what `glmbot.delivery.outlet` names."""
        return await self.call("GET", "/cgi-bin/agent/get", {"agentid": str(self.agent)})

    async def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        form: Callable[[], aiohttp.FormData] | None = None,
        **content: Any,
    ) -> Fields:
        """Raises what `glmbot.delivery.outlet` names. form: of an upload; makes one for each try."""
        for again in (False, True):
            params = {"access_token": await self._token.current(), **(query or {})}
            data = {"data": form()} if form is not None else {}
            status, found, _ = await self.api.request(method, path, params=params, **content, **data)
            code = code_in(found)
            if code in TOKEN_ENDED and not again:
                self._token.forget()
                continue
            if status < 400 and found.get("errcode") == 0:
                return found
            raise refused(code, words_in(found), status=status, file=form is not None)
        raise Unreachable("WeCom: the token is refused")

    async def _ask_for_token(self) -> tuple[str, float]:
        params = {"corpid": self.corp, "corpsecret": self._secret}
        status, found, _ = await self.api.request("GET", "/cgi-bin/gettoken", params=params)
        token, code = found.get("access_token"), code_in(found)
        if code in WRONG_SECRET:
            wrong = PlatformRefused(
                f"[wecom] corp_id and token: WeCom does not know this company with this application's Secret"
                f" ({code}); copy both from https://work.weixin.qq.com/wework_admin"
            )
            raise self._token.refused(wrong)
        if code or not isinstance(token, str) or not token:
            raise refused(code, explained(code) or words_in(found), status=status)
        return token, usable_for(found.get("expires_in"))


def code_in(found: Fields) -> int:
    """0 where there is none."""
    code = found.get("errcode")
    return code if type(code) is int and abs(code) < 10**9 else 0


def words_in(found: Fields) -> str:
    """WeCom's own, short, without the hint for its support and the address that asked."""
    words = found.get("errmsg")
    said = " ".join(words.split()) if isinstance(words, str) else ""
    return said.partition(", hint:")[0][:200]
