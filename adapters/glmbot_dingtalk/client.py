"""DingTalk's interfaces over HTTP, with the app's token, which ends and is asked for again.

The official package for Python blocks the loop while it asks for tokens and connections, and hands messages on in
no order; the interface is plain HTTP and JSON.
https://open.dingtalk.com/document/orgapp/obtain-the-access-token-of-an-internal-app
"""

from __future__ import annotations

import uuid

from glmbot.delivery.json_api import AccessToken, JsonApi, usable_for
from glmbot.delivery.outlet import NotWritten, Unreachable
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.fields import Fields
from glmbot_dingtalk.refusals import TOKEN_ENDED, WRONG_APP, refused
from glmbot_dingtalk.settings import DingTalkSettings

__all__ = ["CARDS_TOPIC", "MESSAGES_TOPIC", "Client", "Fields", "words_in"]

MESSAGES_TOPIC, CARDS_TOPIC = "/v1.0/im/bot/messages/get", "/v1.0/card/instances/callback"
_NO_PERMISSION = "accesstokenpermissiondenied"


class Client:
    def __init__(self, settings: DingTalkSettings) -> None:
        """Raises PlatformRefused where the app's id or secret is missing, AdapterError for no proxy."""
        if not settings.client_id:
            raise PlatformRefused(
                "[dingtalk] client_id is not set: copy it from https://open-dev.dingtalk.com"
            )
        self.robot = settings.client_id
        self._secret = settings.read_token("dingtalk")
        base = settings.api_base_url
        self.api = JsonApi("DingTalk", base, proxy=settings.proxy_for(base))
        self._token = AccessToken(self._ask_for_token)

    async def close(self) -> None:
        await self.api.session.close()

    async def log_in(self) -> None:
        """Raises AdapterError."""
        await self._token.first(self.api, "dingtalk")

    async def open_stream(self) -> tuple[str, str]:
        """Where the connection is, and the ticket for it. Raises AdapterError."""
        topics = [{"type": "CALLBACK", "topic": topic} for topic in (MESSAGES_TOPIC, CARDS_TOPIC)]
        body = {"clientId": self.robot, "clientSecret": self._secret, "subscriptions": topics, "ua": "glmbot"}
        try:
            status, found, _ = await self.api.request("POST", "/v1.0/gateway/connections/open", json=body)
        except NotWritten as error:
            raise AdapterError(str(error)) from error
        endpoint, ticket = found.get("endpoint"), found.get("ticket")
        if isinstance(endpoint, str) and isinstance(ticket, str) and endpoint.startswith(("wss://", "ws://")):
            return endpoint, ticket
        code = _code(found)
        if code.lower() in WRONG_APP or status in (401, 403):
            raise self._wrong_app(code)
        raise AdapterError(f"DingTalk gives no connection: {code or status} {words_in(found)}")

    async def call(self, method: str, path: str, body: Fields) -> Fields:
        """Raises what `glmbot.delivery.outlet` names."""
        for again in (False, True):
            headers = {"x-acs-dingtalk-access-token": await self._token.current()}
            status, found, _ = await self.api.request(method, path, headers=headers, json=body)
            code = _code(found)
            if code.lower() in TOKEN_ENDED and not again:
                self._token.forget()
                continue
            if status < 400:
                return found
            raise refused(status, code, words_in(found))
        raise Unreachable("DingTalk: the token is refused")

    async def missing_permission(self) -> str:
        """Why cards can't be written, "" where they can: a card that there is not is written, which DingTalk
        refuses with what it looks at first."""
        body = {
            "outTrackId": f"glmbot-doctor-{uuid.uuid4().hex}",
            "guid": uuid.uuid4().hex,
            "key": "msgContent",
        }
        body |= {"content": "", "isFull": "true", "isFinalize": "false", "isError": "false"}
        try:
            await self.call("PUT", "/v1.0/card/streaming", body)
        except NotWritten as error:
            if _NO_PERMISSION in str(error).lower():
                return (
                    "the permission Card.Streaming.Write is missing: add it under Permissions at"
                    f" https://open-dev.dingtalk.com, and publish a version ({error})"
                )
        return ""

    async def _ask_for_token(self) -> tuple[str, float]:
        body = {"appKey": self.robot, "appSecret": self._secret}
        status, found, _ = await self.api.request("POST", "/v1.0/oauth2/accessToken", json=body)
        token, code = found.get("accessToken"), _code(found)
        if code.lower() in WRONG_APP:
            raise self._token.refused(self._wrong_app(code))
        if not isinstance(token, str) or not token:
            raise refused(max(status, 400), code, words_in(found))
        return token, usable_for(found.get("expireIn"))

    def _wrong_app(self, code: str) -> PlatformRefused:
        return PlatformRefused(
            f"[dingtalk] client_id and token: DingTalk does not know this Client ID with this Client Secret"
            f" ({code}); copy both from https://open-dev.dingtalk.com"
        )


def _code(found: Fields) -> str:
    code = found.get("code")
    return code[:200] if isinstance(code, str) and code.isprintable() else ""


def words_in(found: Fields, key: str = "message") -> str:
    """DingTalk's own, short: it names a permission that is missing."""
    words = found.get(key)
    return " ".join(words.split())[:300] if isinstance(words, str) else ""
