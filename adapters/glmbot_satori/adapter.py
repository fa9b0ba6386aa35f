"""Satori: what a server such as koishi is logged in to. Channels, threads of its platforms, direct messages.

Events come over one WebSocket with a number each. A number counts as taken once the event is stored, so what could
not be stored, or came while the connection was gone, comes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from glmbot.background import Background, together
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.paces import Paces
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.http.quiet import Quiet
from glmbot.http.talk import SocketTalk
from glmbot.keys import ConversationKey
from glmbot.messages import Message, Reply
from glmbot.ports import Chats, Deliver
from glmbot_satori.client import Client, Events
from glmbot_satori.delivery import PROFILE, SatoriOutlet
from glmbot_satori.normalize import BELOW, CHANNEL, PLATFORM, SELF, Deleted, Login, read_event
from glmbot_satori.settings import SatoriSettings

__all__ = ["SatoriAdapter", "SatoriSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
_CLOCKS_DIFFER_S = 600.0
# All platforms together.
_OVERALL_S = 0.05


class _Wanted(Deliver, Chats, Protocol): ...


class SatoriAdapter:
    Settings: ClassVar[type[BaseModel]] = SatoriSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: SatoriSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._events = Events(settings, settings.read_token(PLATFORM))
        self._leaving = Background()
        self._quiet = Quiet()
        self._paces = Paces(within=_OVERALL_S)
        self._connection: tuple[AsyncExitStack, SocketTalk] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = False
        self._client: Client | None = None

    @staticmethod
    async def identify(settings: SatoriSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return ", ".join(_titles(await _logins(settings))) or "no account: log in at the server first"

    @staticmethod
    async def examine(settings: SatoriSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        logins = await _logins(settings)
        there = {login.platform for login in logins}
        missing = [each for each in settings.platforms if each not in there]
        found = [
            (bool(logins), f"logged in: {', '.join(_titles(logins)) or 'nobody; do that at the server'}")
        ]
        if missing:
            found.append((False, f"platforms: the server is not logged in to {', '.join(missing)}"))
        slow = [login.platform for login in logins if "message.update" not in login.features]
        if slow:
            found.append((True, f"nothing can be edited on {', '.join(slow)}: answers come in paragraphs"))
        return found

    async def start(self) -> None:
        self._client = Client(self._settings, self._settings.read_token(PLATFORM))
        await self._connect(self._client)

    async def run(self) -> None:
        """Both what hears and what answers end with whichever of them fails, so that both are started again."""
        async with together() as group:
            serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)
            self._serving = group.create_task(serving)
            group.create_task(self._listen())

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._closing = True
        if self._serving is not None:
            self._serving.cancel()
        await self._disconnect()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._leaving.drain(_DRAIN_S))
        if self._client is not None:
            await self._client.close()

    # ---- what happens ------------------------------------------------------------------------------------------

    async def _connect(self, client: Client) -> None:
        stack = AsyncExitStack()
        talk = await stack.enter_async_context(self._events.connected(client.http))
        self._connection = stack, talk
        _log.info("Satori: ready: %s", ", ".join(_titles([*self._events.logins.values()])))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection[0].aclose()

    async def _listen(self) -> None:
        """Raises AdapterError once nothing can be heard."""
        if self._connection is None and self._client is not None:
            await self._connect(self._client)
        if self._connection is None:
            raise AdapterError("Satori: it is not started")
        try:
            why = await self._events.read(self._connection[1], self._take)
        finally:
            if not self._closing:
                await self._disconnect()
        if self._closing:
            await asyncio.Event().wait()
        raise AdapterError(f"Satori: the connection ended: {why}")

    async def _take(self, event: dict[str, Any]) -> None:
        """Raises AdapterError when it could not be stored: it comes again."""
        if event.get("type") in ("login-added", "login-updated", "login-removed"):
            self._events.learn(event.get("login"), gone=event["type"] == "login-removed")
            return
        try:
            read = read_event(event, language=self._settings.language)
        except Exception as error:  # whatever a malformed event trips over
            # Neither what was said nor by whom: an error's words may hold it.
            self._complain(f"an event that could not be read is left out ({type(error).__name__})")
            return
        try:
            if isinstance(read, Message) and self._is_wanted(read.origin[BELOW]):
                await self._dialogue.accept(read)
            elif isinstance(read, Deleted):
                where, ref = partial(self._asked_in, read), read.ref
                self._leaving.begin(
                    self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove)
                )
        except StoreError as error:
            raise AdapterError(
                f"Satori: what was said could not be stored, and will come again: {error}"
            ) from error
        except Exception as error:
            self._complain(f"an event that can't be taken is left out ({type(error).__name__})")

    def _is_wanted(self, platform: str) -> bool:
        return not self._settings.platforms or platform in self._settings.platforms

    async def _asked_in(self, deleted: Deleted) -> ConversationKey | None:
        """Raises StoreError."""
        since = max(0.0, deleted.at - _CLOCKS_DIFFER_S)
        return deleted.conversation or await self._dialogue.asked_in(deleted.chat, deleted.ref, since)

    async def _remove(self, conversation: ConversationKey, ids: Sequence[str]) -> None:
        below, _, channel = conversation.chat.partition("/")
        login = next((each for each in self._events.logins.values() if each.platform == below), None)
        client = self._client
        if login is not None and client is not None:
            remove = partial(client.call, below, login.self_id, "message.delete", channel_id=channel)
            pace = self._paces.of(conversation.chat, self._settings.edit_interval_s)
            await remove_each("Satori", pace, ids, lambda each: remove(message_id=each))

    # ---- answering ---------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        if self._client is None:
            raise AdapterError("Satori: it is not started")
        settings, below, self_id = self._settings, message.origin[BELOW], message.origin[SELF]
        login = self._events.logins.get((below, self_id)) or Login(below, self_id)
        outlet = SatoriOutlet(self._client, message, login, settings.longest_message)
        pace = self._paces.of(f"{below}/{message.origin[CHANNEL]}", settings.edit_interval_s)
        self._deliveries.begin(message, outlet, pace, earlier, whole=settings.whole)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """There are no buttons."""

    def _complain(self, words: str) -> None:
        if self._quiet.lets(words):
            _log.warning("Satori: %s", words)


async def _logins(settings: SatoriSettings) -> Sequence[Login]:
    """Raises AdapterError."""
    token = settings.read_token(PLATFORM)
    client, events = Client(settings, token), Events(settings, token)
    try:
        async with events.connected(client.http):
            return [*events.logins.values()]
    finally:
        await client.close()


def _titles(logins: Sequence[Login]) -> list[str]:
    return [f"{login.name or login.self_id} ({login.platform})" for login in logins]
