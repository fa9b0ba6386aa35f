"""QQ's official bots: private chats, groups, guilds; replies within QQ's number and time; Markdown where granted.

Events come through the gateway, a connection that the bot opens, or are posted to a route of [web].
https://bot.q.qq.com/wiki/develop/api-v2/
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Protocol

from pydantic import BaseModel

from glmbot.background import Background, Running
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import NotWritten
from glmbot.delivery.paces import Paces
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.fields import Fields
from glmbot.http.quiet import Quiet
from glmbot.http.replays import CLOCK_OFF_S, Replays
from glmbot.http.routes import Route, RouteWish
from glmbot.keys import ChatKey, ConversationKey
from glmbot.messages import Message, PressedButton, Reply
from glmbot.ports import Chats, Deliver
from glmbot_qq.callback import WINDOW_S, callback_route
from glmbot_qq.client import Client, quoted
from glmbot_qq.delivery import PROFILE, QQOutlet, path_of
from glmbot_qq.gateway import Gateway
from glmbot_qq.normalize import INTERACTION, PLATFORM, Deleted, from_event, scene_of
from glmbot_qq.replies import WINDOW_S as REPLIES_S
from glmbot_qq.replies import in_portions
from glmbot_qq.settings import QQSettings

__all__ = ["QQAdapter", "QQSettings", "TooLateForQQ"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
_ASKED_WITHIN_S = 24 * 3600.0
# A message is nearly too old before QQ says so: who is answered decides.
_SLACK_S = 120.0
# https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/trans/msg-btn.html: 0 成功, 4 没有权限.
_OBEYED, _NOT_YOURS = 0, 4


class _Wanted(Deliver, Chats, Protocol): ...


class TooLateForQQ(Exception):
    """Of a dead letter: QQ takes no reply to so old a message, and [qq] active_messages is off."""


class QQAdapter:
    Settings: ClassVar[type[BaseModel]] = QQSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: QQSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = in_portions(without_thoughts(dialogue))
        self._deliveries = Deliveries(dialogue)
        self._aside = Background()
        self._quiet = Quiet()
        self._paces = Paces(within=1 / settings.requests_per_second)
        self._replays = Replays(time.time, WINDOW_S)
        self._running = Running()
        self._client: Client | None = None
        self._gateway: Gateway | None = None
        self._bot = ""
        self._listening = False

    @staticmethod
    def check(settings: QQSettings, running: QQSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not settings.app_id:
            raise PlatformRefused("[qq] app_id is not set: copy it from https://q.qq.com")
        settings.read_token("qq")

    @staticmethod
    def route_wishes(settings: QQSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if not settings.posted:
            return ()
        words = 'set [qq] events = "websocket": then events come through a connection that the bot opens'
        return [RouteWish("[qq] events_path", settings.events_path, None, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        settings = self._settings
        if not settings.posted:
            return ()
        secret = settings.read_token("qq")
        return [
            callback_route(
                settings.events_path,
                settings.app_id,
                secret,
                self._replays,
                self._take,
                lambda: self._listening,
            )
        ]

    @staticmethod
    async def identify(settings: QQSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        client = Client(settings)
        try:
            return str((await client.log_in()).get("username") or settings.app_id)
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: QQSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError.

        Only the gateway tells whether intents are granted: it is connected to for a moment, in a session apart.
        """
        client = Client(settings)
        try:
            bot = await client.log_in()
            found = [(True, f"AppID and AppSecret are those of {bot.get('username') or settings.app_id}")]
            if abs(client.clock_ahead_s) > CLOCK_OFF_S:
                off = abs(client.clock_ahead_s)
                words = f"this machine's clock is {off:.0f} s off: what QQ posts would be refused"
                found.append((False, words))
            if not settings.posted:
                found.append(await _tried(client, settings))
            return found
        finally:
            await client.close()

    async def start(self) -> None:
        self._client = client = Client(self._settings)
        bot = await client.log_in()
        name = bot.get("id")
        self._bot = name if isinstance(name, str) else ""
        if not self._settings.posted:
            self._gateway = Gateway(client, self._settings.places, self._take, buttons=self._settings.buttons)
            await self._gateway.open()
        self._listening = True
        _log.info("QQ: %s is listening", bot.get("username") or self._settings.app_id)

    async def run(self) -> None:
        serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)
        hearing = () if self._gateway is None else (self._gateway.run(),)
        await self._running.run(serving, *hearing)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        await self._stop_receiving()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._aside.drain(_DRAIN_S))
        if self._client is not None:
            await self._client.close()

    async def _stop_receiving(self) -> None:
        self._listening = False
        self._running.end()
        if self._gateway is not None:
            await self._gateway.close()

    # ---- receiving -------------------------------------------------------------------------------------------

    async def _take(self, payload: Fields) -> None:
        """Raises StoreError when it could not be stored."""
        try:
            taken = from_event(payload, self._bot, self._settings.language)
        except Exception as error:  # whatever a malformed event trips over
            # Neither what was said nor by whom: an error's words may hold it.
            if self._quiet.lets(type(error).__name__):
                _log.warning("QQ: an event that could not be read is left out (%s)", type(error).__name__)
            return
        match taken:
            case None:
                pass
            case Message():
                await self._dialogue.accept(taken)
            case Deleted():
                self._take_away(taken)
            case PressedButton() if taken.counts:
                await self._dialogue.accept(taken.message)
                self._aside.begin(self._confirm(taken.message, _OBEYED))
            case PressedButton():
                self._aside.begin(self._confirm(taken.message, _NOT_YOURS))

    async def _confirm(self, press: Message, code: int) -> None:
        """Else the button seems to be pressed until a time is over."""
        try:
            if self._client is not None:
                path = f"/interactions/{quoted(press.origin[INTERACTION])}"
                await self._client.call("PUT", path, {"code": code})
        except (NotWritten, AdapterError) as error:
            _log.info("QQ: a pressed button could not be confirmed: %s", error)

    def _take_away(self, deleted: Deleted) -> None:
        chat, ref = ChatKey(PLATFORM, deleted.chat), deleted.ref
        self._deliveries.take_back(ref)
        where = partial(self._dialogue.asked_in, chat, ref, time.time() - _ASKED_WITHIN_S)
        self._aside.begin(self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove))

    async def _remove(self, conversation: ConversationKey, message_ids: Sequence[str]) -> None:
        client = self._client
        if client is not None:
            pace = self._paces.of(conversation.chat, self._settings.interval_s)
            path = f"{path_of(conversation.chat)}/messages"
            await remove_each(
                "QQ", pace, message_ids, lambda each: client.call("DELETE", f"{path}/{quoted(each)}")
            )

    # ---- answering -------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        """Raises TooLateForQQ, so that no model is asked for what nobody would see."""
        client = self._client
        if client is None:
            return
        chat = message.conversation.chat
        may_be_active = self._settings.active_messages and client.may_be_active(chat)
        if message.act.at and not may_be_active:
            age = time.time() - message.act.at - client.clock_ahead_s
            if age > REPLIES_S[scene_of(chat)[0]] + _SLACK_S:
                raise TooLateForQQ(f"{age:.0f} s")
        pace = self._paces.of(chat, self._settings.interval_s)
        outlet = QQOutlet(client, message, self._settings, sent=len(earlier.sent))
        self._deliveries.begin(message, outlet, pace, earlier, whole=self._settings.whole)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """The answer that was stopped says so itself."""


async def _tried(client: Client, settings: QQSettings) -> tuple[bool, str]:
    async def leave(_: Fields) -> None:
        """What is said meanwhile is heard by the bot that runs."""

    gateway = Gateway(client, settings.places, leave, buttons=settings.buttons)
    try:
        await gateway.open()
    except AdapterError as error:
        return False, str(error)
    finally:
        await gateway.close()
    return True, f"the gateway lets the bot listen in {', '.join(settings.places)}"
