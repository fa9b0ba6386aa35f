"""Slack through slack-sdk's clients: mentions, threads, direct messages, a slash command, buttons.

Events come through a connection that the bot opens (Socket Mode), or are posted to a route of [web].
https://docs.slack.dev/apis/events-api
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Protocol, cast

import aiohttp
from pydantic import BaseModel

from glmbot.background import Background, Running, reconnecting
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import NotWritten
from glmbot.delivery.paces import Paces
from glmbot.delivery.recent import Recent
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.quiet import Quiet
from glmbot.http.replays import Replays
from glmbot.http.routes import Route, RouteWish
from glmbot.keys import ConversationKey
from glmbot.messages import Message, PressedButton, Reply, Role
from glmbot.ports import Chats, Deliver, Menus
from glmbot_slack.callback import WINDOW_S, callback_route
from glmbot_slack.client import Socket, examine, log_in, session_for, web_client
from glmbot_slack.delivery import PROFILE, SlackOutlet
from glmbot_slack.home import home_of
from glmbot_slack.normalize import (
    PLATFORM,
    Deleted,
    HomeOpened,
    Self,
    from_command,
    from_event,
    from_press,
)
from glmbot_slack.refusals import ask
from glmbot_slack.render import escaped
from glmbot_slack.settings import SlackSettings
from glmbot_slack.streams import Streams, delete

__all__ = ["SlackAdapter", "SlackSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
_STREAMS_END_S = 2.0
_LOOK_EVERY_S = 5.0
_HOMES_KEPT = 10_000
_LONGEST_AWAY_S = 60.0


class _Wanted(Deliver, Chats, Menus, Protocol): ...


class SlackAdapter:
    Settings: ClassVar[type[BaseModel]] = SlackSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: SlackSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._quiet = Quiet()
        self._aside = Background()
        self._paces = Paces(within=60 / settings.requests_per_minute)
        self._homes = Recent[str, bool](_HOMES_KEPT)
        self._streams = Streams(settings.streaming)
        self._replays = Replays(time.time, WINDOW_S)
        self._running = Running()
        self._me: Self | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: Socket | None = None

    @staticmethod
    def check(settings: SlackSettings, running: SlackSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        if not (settings.connects or settings.posted):
            raise PlatformRefused(
                "[slack] no events can come: set app_token (Socket Mode), or signing_secret, for events that Slack"
                " posts to [web]"
            )
        settings.read_app_token()
        settings.read_signing_secret()

    @staticmethod
    def route_wishes(settings: SlackSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if not settings.posted:
            return ()
        words = "set [slack] app_token instead of signing_secret (Socket Mode)"
        return [RouteWish("[slack] events_path", settings.events_path, None, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        if not self._settings.posted:
            return ()
        secret = self._settings.read_signing_secret()
        return (
            [callback_route(self._settings.events_path, secret, self._replays, self._take)] if secret else ()
        )

    @staticmethod
    async def identify(settings: SlackSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        async with session_for() as session:
            known = await log_in(web_client(settings, session), settings)
            return f"@{known.get('user')} ({known.get('team')})"

    @staticmethod
    async def examine(settings: SlackSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await examine(settings)

    async def start(self) -> None:
        settings = self._settings
        self._session = session_for()
        self._client = web_client(settings, self._session)
        known = await log_in(self._client, settings)
        self._me = Self(str(known.get("user_id") or ""), str(known.get("bot_id") or ""), settings.threads)
        self._streams.team = str(known.get("team_id") or "")
        self._commands = frozenset(info.name for info in self._dialogue.commands("en", Role.ADMIN))
        if settings.connects:
            self._socket = Socket(self._client, settings.read_app_token(), self._take)
            await self._socket.connect(settings)
        _log.info("Slack: @%s is listening in %s", known.get("user"), known.get("team"))

    async def run(self) -> None:
        works = [self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)]
        if self._socket is not None:
            connect = partial(self._socket.connect, self._settings)
            works += [reconnecting(self._socket.lasts, connect), self._watch(self._socket)]
        await self._running.run(*works)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        me, self._me = self._me, None
        self._running.end()
        if self._socket is not None:
            await self._socket.close()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._aside.drain(_DRAIN_S))
        await self._streams.drain(_STREAMS_END_S)
        if self._session is not None:
            await self._session.close()
        if me is not None:
            _log.info("Slack: no longer listening")

    async def _watch(self, socket: Socket) -> None:
        """Raises AdapterError, so that a long absence is known to be one."""
        away = 0.0
        while self._me is not None:
            await asyncio.sleep(_LOOK_EVERY_S)
            away = 0.0 if await socket.is_connected() else away + _LOOK_EVERY_S
            if away > _LONGEST_AWAY_S:
                raise AdapterError("Slack: the connection of Socket Mode is gone")

    # ---- receiving -------------------------------------------------------------------------------------------

    async def _take(self, kind: str, payload: Mapping[str, Any]) -> bool:
        """False before it is known who we are: Slack sends it again. Raises StoreError."""
        me = self._me
        if me is None:
            return False
        try:
            taken = self._read(kind, payload, me)
        except Exception as error:  # whatever a malformed request trips over
            # Neither what was said nor by whom: an error's words may hold it.
            if self._quiet.lets(type(error).__name__):
                _log.warning("Slack: what could not be read is left out (%s)", type(error).__name__)
            return True
        match taken:
            case None:
                pass
            case Message():
                await self._dialogue.accept(taken)
            case Deleted():
                where, ref = taken.conversation, taken.ref
                self._aside.begin(
                    self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove)
                )
            case HomeOpened() if self._homes.get(taken.user) is None:
                # It stays as it is published.
                self._homes.put(taken.user, True)
                self._aside.begin(self._show_home(taken.user))
            case HomeOpened():
                pass
            case PressedButton() if taken.counts:
                await self._dialogue.accept(taken.message)
            case PressedButton():
                words = self._dialogue.text(taken.message.language, "button.not_yours")
                self._aside.begin(self._tell_alone(taken.message, words))
        return True

    def _read(
        self, kind: str, payload: Mapping[str, Any], me: Self
    ) -> Message | Deleted | HomeOpened | PressedButton | None:
        match kind:
            case "events_api":
                event = payload.get("event")
                return from_event(cast(Mapping[str, Any], event), me) if isinstance(event, Mapping) else None
            case "slash_commands":
                return from_command(payload, self._commands)
            case "interactive":
                return from_press(payload)
            case _:
                return None

    async def _remove(self, conversation: ConversationKey, message_ids: Sequence[str]) -> None:
        pace = self._paces.of(conversation.chat, self._settings.edit_interval_s)
        await remove_each("Slack", pace, message_ids, lambda ts: delete(self._client, conversation.chat, ts))

    async def _show_home(self, user: str) -> None:
        view = home_of(self._dialogue.text("", "help.title"), self._dialogue.commands("", Role.USER))
        try:
            await ask(self._client.views_publish(user_id=user, view=dict(view)))
        except NotWritten as error:
            self._homes.take(user)
            _log.info("Slack: the tab Home could not be shown: %s", error)

    async def _tell_alone(self, message: Message, words: str) -> None:
        """For the eyes of who pressed; who presses without end is told the same now and then."""
        where = message.conversation
        if not self._quiet.lets(f"{message.user.id} {words}"):
            return
        with suppress(NotWritten):
            await ask(
                self._client.chat_postEphemeral(
                    channel=where.chat,
                    user=message.user.id,
                    text=escaped(words),
                    thread_ts=where.thread or None,
                )
            )

    # ---- answering -------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        pace = self._paces.of(message.conversation.chat, self._settings.edit_interval_s)
        self._deliveries.begin(message, SlackOutlet(self._client, message, self._streams), pace, earlier)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """The answer that was stopped says so itself; what came of a vote is for who gave it."""
        if reply is not None and message.command is not None and message.command.name != "stop":
            await self._tell_alone(message, reply.notice)
