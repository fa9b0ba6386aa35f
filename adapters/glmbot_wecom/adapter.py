"""WeCom (企业微信): smart bots, in groups and directly, whose answers grow; and applications.

https://developer.work.weixin.qq.com/document/path/101463, https://developer.work.weixin.qq.com/document/path/90238
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from glmbot.background import Background, Running, together
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import NotWritten, Piece
from glmbot.delivery.paces import Paces
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.http.fields import Fields, text_of
from glmbot.http.quiet import Quiet
from glmbot.http.replays import CLOCK_OFF_S, Replays, clock_ahead
from glmbot.http.routes import Route, RouteWish
from glmbot.messages import Message, Reply
from glmbot.ports import Deliver
from glmbot_wecom.application import AppOutlet, passive_reply
from glmbot_wecom.callback import WINDOW_S, callback_route
from glmbot_wecom.client import Client
from glmbot_wecom.connection import Connection
from glmbot_wecom.crypt import Crypt
from glmbot_wecom.delivery import PROFILE, SmartOutlet
from glmbot_wecom.normalize import PLATFORM, from_frame
from glmbot_wecom.passive import Passives
from glmbot_wecom.posted import from_fields
from glmbot_wecom.settings import WeComSettings

__all__ = ["WeComAdapter", "WeComSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0


class WeComAdapter:
    Settings: ClassVar[type[BaseModel]] = WeComSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: WeComSettings, dialogue: Deliver) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._paces = Paces(within=1 / settings.requests_per_second)
        self._replays = Replays(time.time, WINDOW_S)
        self._passives = Passives(settings.passive_s)
        self._quiet = Quiet()
        self._aside = Background()
        self._serving, self._listening = Running(), Running()
        self._connection: Connection | None = None
        self._client: Client | None = None
        self._ready = False

    @staticmethod
    def check(settings: WeComSettings, running: WeComSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        settings.check_sides()

    @staticmethod
    def route_wishes(settings: WeComSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if not settings.corp_id:
            return ()
        words = "use a smart bot instead: its messages come through a connection that the bot opens"
        return [RouteWish("[wecom] callback_path", settings.callback_path, None, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        settings = self._settings
        if not settings.corp_id:
            return ()
        crypt = Crypt(settings.read_callback_token(), settings.read_aes_key(), settings.corp_id)
        take, again, path = self._take_posted, self._answered_before, settings.callback_path
        return [callback_route(path, crypt, self._replays, take, again, lambda: self._ready)]

    @staticmethod
    async def identify(settings: WeComSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        settings.check_sides()
        if settings.bot_id:
            await _connected_once(settings)
            return settings.bot_id
        client = Client(settings)
        try:
            await client.log_in()
            return await _name_of(client)
        except NotWritten as error:
            raise AdapterError(str(error)) from error
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: WeComSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError.

        A smart bot that runs elsewhere loses its connection for some seconds.
        """
        settings.check_sides()
        if settings.bot_id:
            await _connected_once(settings)
            return [(True, "WeCom knows the smart bot, and gives it a long connection")]
        client = Client(settings)
        try:
            await client.log_in()
            found = [(True, "corp_id and the Secret belong together")]
            if (off := abs(clock_ahead(client.api.date, time.time()))) > CLOCK_OFF_S:
                found.append(
                    (False, f"this machine's clock is {off:.0f} s off: what WeCom posts would be refused")
                )
            try:
                found.append((True, f"WeCom knows the application {await _name_of(client)}"))
            except NotWritten as error:
                found.append((False, str(error)))
            return found
        finally:
            await client.close()

    async def start(self) -> None:
        self._settings.check_sides()
        if self._settings.bot_id:
            self._connection = Connection(self._settings, self._take_said)
            await self._connection.open()
            _log.info("WeCom: smart bot %s is listening", self._settings.bot_id)
        else:
            self._client = Client(self._settings)
            await self._client.log_in()
            _log.info("WeCom: application %d is listening", self._settings.agent_id)
        self._ready = True

    async def run(self) -> None:
        async with together() as group:
            serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped)
            group.create_task(self._serving.run(serving))
            if self._connection is not None:
                group.create_task(self._listening.run(self._connection.run()))

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        """What is being said ends over the connection through which it is confirmed."""
        self._ready = False
        self._serving.end()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._aside.drain(_DRAIN_S))
        await self._close()

    async def _close(self) -> None:
        self._passives.close()
        self._serving.end()
        self._listening.end()
        if self._connection is not None:
            await self._connection.close()
        if self._client is not None:
            await self._client.close()

    # ---- receiving ----------------------------------------------------------------------------------

    async def _take_said(self, headers: Fields, body: Fields) -> None:
        """What is said to a smart bot. WeCom sends nothing again."""
        try:
            message = from_frame(headers, body, self._settings.language, self._settings.name)
        except Exception as error:  # whatever a malformed message trips over
            self._complain(error)
            return
        try:
            await self._dialogue.accept(message)
        except StoreError as error:
            _log.error("WeCom: what was asked could not be stored: %s", error)
            # Not here, where the confirmation would be waited for that is heard here.
            self._aside.begin(self._say_not_stored(message))

    async def _say_not_stored(self, message: Message) -> None:
        words = self._dialogue.text(message.language, "answer.store_failed")
        try:
            if self._connection is not None:
                await SmartOutlet(self._connection, message).send(Piece("", words), "not stored")
        except NotWritten as error:
            _log.info("WeCom: nor could its asker be told: %s", error)

    async def _take_posted(self, fields: Mapping[str, str]) -> Mapping[str, str | int] | None:
        """What is said to an application. Raises StoreError when it could not be stored."""
        try:
            message = from_fields(fields, self._settings.agent_id, self._settings.language)
        except Exception as error:  # whatever a malformed message trips over
            self._complain(error)
            return None
        if message is None:
            return None
        self._passives.open(message.update_id)
        await self._dialogue.accept(message)
        words = await self._passives.answer(message.update_id)
        return passive_reply(fields, words, time.time()) if words else None

    def _answered_before(self, fields: Mapping[str, str]) -> Mapping[str, str | int] | None:
        words = self._passives.given(f"{self._settings.agent_id}:{text_of(fields, 'MsgId')}")
        return passive_reply(fields, words, time.time()) if words else None

    def _complain(self, error: Exception) -> None:
        """Neither what was said nor by whom: an error's words may hold it."""
        if self._quiet.lets(type(error).__name__):
            _log.warning("WeCom: what could not be read is left out (%s)", type(error).__name__)

    # ---- answering ----------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        pace = self._paces.of(message.conversation.chat, self._settings.edit_interval_s)
        if self._connection is not None:
            outlet = SmartOutlet(self._connection, message)
        elif self._client is not None:
            outlet = AppOutlet(self._client, message, self._passives)
        else:
            return
        self._deliveries.begin(message, outlet, pace, earlier, whole=self._settings.whole)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """There are no buttons."""


async def _connected_once(settings: WeComSettings) -> None:
    """Raises AdapterError."""

    async def leave(headers: Fields, body: Fields) -> None:
        """Whoever listens hears it."""

    connection = Connection(settings, leave)
    try:
        await connection.open()
    finally:
        await connection.close()


async def _name_of(client: Client) -> str:
    """Raises what `glmbot.delivery.outlet` names."""
    name = (await client.about()).get("name")
    return name[:200] if isinstance(name, str) and name.isprintable() else str(client.agent)
