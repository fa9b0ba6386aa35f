"""Slack's clients: of the Web API, and of Socket Mode, which hands on one request after the other."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import aiohttp
from slack_sdk.errors import SlackClientError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from glmbot.errors import AdapterError, PlatformRefused, StoreError, outage
from glmbot.http.replays import CLOCK_OFF_S, clock_ahead
from glmbot_slack.refusals import error_of, needed_scope
from glmbot_slack.settings import SlackSettings

__all__ = ["Socket", "examine", "log_in", "refusal", "web_client"]

_log = logging.getLogger(__name__)
_library = logging.getLogger("slack_sdk")
_ADDRESS = re.compile(r"\bwss?://\S+")

_TIMEOUT_S = 30
_LOOK_EVERY_S = 1.0
_BRIEF_S = 10.0
# https://docs.slack.dev/reference/scopes; what each is needed for.
_SCOPES = {
    "chat:write": "to answer",
    "app_mentions:read": "to hear mentions in channels",
    "im:history": "to hear direct messages",
    "files:write": "to send files (/export, long code)",
    "commands": "for a slash command",
}
_WRONG_TOKEN = frozenset({"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"})


# What the library could not connect for, in place of its line, which comes before it tries again for ever.
_failed: ContextVar[asyncio.Future[str] | None] = ContextVar("failed", default=None)


def _in_a_word(record: logging.LogRecord) -> bool:
    """The library tells each try to connect with a traceback, and the address with its ticket."""
    failed, error = _failed.get(), record.exc_info[1] if record.exc_info else None
    record.msg, record.args, record.exc_info = _ADDRESS.sub("wss://…", record.getMessage()), None, None
    if failed is None or not record.msg.startswith("Failed to connect"):
        return True
    if not failed.done():
        failed.set_result(type(error).__name__)
    return False


_library.setLevel(logging.WARNING)
_library.addFilter(_in_a_word)


def web_client(settings: SlackSettings, session: aiohttp.ClientSession) -> AsyncWebClient:
    """Raises PlatformRefused for a token that can't be read."""
    token = settings.read_token("slack")
    client = AsyncWebClient(
        token,
        base_url=settings.api_base_url,
        timeout=_TIMEOUT_S,
        session=session,
        retry_handlers=[],
        logger=_library,
    )
    # Where it is given none, the library takes the environment's even to this machine.
    client.proxy = settings.proxy_for(settings.api_base_url)
    return client


def session_for() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))


async def log_in(client: AsyncWebClient, settings: SlackSettings) -> AsyncSlackResponse:
    """What auth.test tells of the bot. Raises AdapterError."""
    try:
        return await client.auth_test()
    except (SlackClientError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise refusal(settings, "token", error) from error


def refusal(settings: SlackSettings, key: str, error: Exception) -> AdapterError:
    name = error_of(error)
    if name in _WRONG_TOKEN:
        return PlatformRefused(
            f"[slack] {key}: Slack does not know it ({name}); copy it from https://api.slack.com/apps"
        )
    if name == "not_allowed_token_type":
        return PlatformRefused(f"[slack] {key}: this is another of Slack's tokens")
    if scope := needed_scope(error):
        return PlatformRefused(
            f"[slack] {key}: it needs the scope {scope}; add it at https://api.slack.com/apps"
        )
    words = f"Slack at {settings.api_base_url}: {name or outage(error)}"
    return AdapterError(words if name else f"{words}; a proxy goes into [slack] proxy, or into HTTPS_PROXY")


async def examine(settings: SlackSettings) -> list[tuple[bool, str]]:
    """What `glmbot doctor` says after asking Slack. Raises AdapterError."""
    async with session_for() as session:
        client = web_client(settings, session)
        known = await log_in(client, settings)
        headers = {str(name).lower(): str(value) for name, value in getattr(known, "headers", {}).items()}
        found = [(True, f"the token is that of @{known.get('user')} in {known.get('team')}")]
        given = {scope.strip() for scope in headers.get("x-oauth-scopes", "").split(",")} - {""}
        found += [
            (
                False,
                f"the scope {scope} is missing ({why}): add it under OAuth & Permissions, and install again",
            )
            for scope, why in _SCOPES.items()
            if given and scope not in given
        ]
        off = abs(clock_ahead(headers.get("date", ""), time.time()))
        if settings.posted and off > CLOCK_OFF_S:
            found.append(
                (False, f"this machine's clock is {off:.0f} s off: Slack's signatures would be refused")
            )
        if settings.connects:
            try:
                await client.apps_connections_open(app_token=settings.read_app_token())
                found.append((True, "Socket Mode is on, and the app-level token may connect"))
            except (SlackClientError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                found.append((False, str(refusal(settings, "app_token", error))))
        return found


class _OneConnection(SocketModeClient):
    """Ends where the library would open another connection by itself: at once, as often as each is closed."""

    async def connect_to_new_endpoint(self, force: bool = False) -> None:
        await self.disconnect()


class Socket:
    """Connections of Socket Mode, one after the other: https://docs.slack.dev/apis/events-api/using-socket-mode.
    What is not acknowledged is sent again, so a request is acknowledged once it is stored."""

    def __init__(
        self,
        client: AsyncWebClient,
        app_token: str,
        take: Callable[[str, Mapping[str, Any]], Awaitable[bool]],
    ) -> None:
        self._take = take
        # The library begins a task for each request; this keeps their order.
        self._turn = asyncio.Lock()
        self._client = _OneConnection(app_token, logger=_library, web_client=client)
        self._client.proxy = client.proxy
        self._client.socket_mode_request_listeners.append(self._listen)

    async def connect(self, settings: SlackSettings) -> None:
        """Raises AdapterError. The library itself would try for ever, with an address that may have ended."""
        try:
            opened = await self._client.web_client.apps_connections_open(app_token=self._client.app_token)
            url = opened.get("url")
        except (SlackClientError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise refusal(settings, "app_token", error) from error
        if not isinstance(url, str) or not _ADDRESS.fullmatch(url):
            raise AdapterError(f"Slack at {settings.api_base_url} gives no address for Socket Mode")
        self._client.wss_uri = url
        # Else the silence before this connection is taken for its own.
        self._client.last_ping_pong_time = None
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        token = _failed.set(failed)
        connecting = asyncio.create_task(self._client.connect())
        _failed.reset(token)
        try:
            await asyncio.wait({connecting, failed}, timeout=_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                why = failed.result() if failed.done() else "TimeoutError"
                raise AdapterError(f"Slack: no connection of Socket Mode could be opened ({why})")
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)

    async def lasts(self) -> bool:
        """Until the connection has ended; whether it was one at all."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        # The library tells of an end only where it was told of it.
        while await self.is_connected():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        return loop.time() - began > _BRIEF_S

    async def is_connected(self) -> bool:
        return bool(await self._client.is_connected())

    async def close(self) -> None:
        await self._client.close()

    async def _listen(self, _: object, request: SocketModeRequest) -> None:
        async with self._turn:
            try:
                taken = await self._take(request.type, request.payload)
            except StoreError as error:
                _log.warning("Slack: what came could not be stored, and comes again: %s", error)
                return
            if taken:
                try:
                    await self._client.send_socket_mode_response(SocketModeResponse(request.envelope_id))
                except (aiohttp.ClientError, OSError, RuntimeError) as error:
                    _log.info("Slack: what was taken could not be acknowledged (%s)", type(error).__name__)
