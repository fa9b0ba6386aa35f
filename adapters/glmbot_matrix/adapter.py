"""Matrix through matrix-nio's client: rooms, threads, edits, reactions as buttons, encryption where it is there.

https://spec.matrix.org/v1.15/client-server-api/
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar, Protocol

import aiohttp
from nio import SyncResponse
from pydantic import BaseModel

from glmbot.background import Background, Running, reconnecting
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.outlet import NotWritten
from glmbot.delivery.paces import Paces
from glmbot.delivery.recent import Recent
from glmbot.delivery.removal import remove_each
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, PlatformRefused, StoreError
from glmbot.http.fields import Fields, fields_of, text_of
from glmbot.http.quiet import Quiet
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Addressed, ChatKind, Message, Press, Reply, Role, asks_of_tools
from glmbot.ports import Chats, Deliver, Doors, Keeps, Lead, Menus
from glmbot_matrix.buttons import Buttons
from glmbot_matrix.client import MatrixClient, in_path, log_in, refusal, source_of
from glmbot_matrix.delivery import PROFILE, MatrixOutlet, redact
from glmbot_matrix.doctor import examine
from glmbot_matrix.encryption import KeysFolder, is_possible, why_not
from glmbot_matrix.normalize import (
    PLATFORM,
    Deleted,
    Edited,
    Place,
    Reacted,
    Read,
    Self,
    Unreadable,
    Upgraded,
    from_event,
    is_too_old,
    since_invited,
)
from glmbot_matrix.rooms import Rooms, place_of
from glmbot_matrix.settings import MatrixSettings
from glmbot_matrix.syncing import Sync

__all__ = ["MatrixAdapter", "MatrixSettings"]

_log = logging.getLogger(__name__)

_DRAIN_S = 8.0
# What was said before that is nobody's question any more.
_OLDEST_S = 86_400.0
_ASKED_WITHIN_S = 7 * 86_400.0
# What is said next waits meanwhile, in all rooms.
_LOOK_S, _SLOW_LOOK_S, _NO_LOOKS_S = 5.0, 1.0, 60.0
_MOST_KNOWN = 5000
_MOST_PRESSES = 50
_EVENTS_AT_ONCE = 20


class _Wanted(Deliver, Lead, Chats, Keeps, Doors, Menus, Protocol): ...


class MatrixAdapter:
    Settings: ClassVar[type[BaseModel]] = MatrixSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: MatrixSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._aside = Background()
        self._paces = Paces(within=60 / settings.requests_per_minute)
        self._folder: KeysFolder | None = None
        self._client: MatrixClient | None = None
        self._running = Running()
        self._sent = Recent[str, None](_MOST_KNOWN)
        # By room and event: questions of late, of which an edit or a redaction says neither whose nor where.
        self._asked = Recent[tuple[str, str], ConversationKey](_MOST_KNOWN)
        self._pressing = 0
        self._looks_from = 0.0
        self._quiet = Quiet()
        self._buttons: Buttons
        self._rooms: Rooms
        self._sync: Sync
        self._me: Self

    @staticmethod
    def check(settings: MatrixSettings, _: MatrixSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises PlatformRefused."""
        settings.required_homeserver()

    @staticmethod
    async def identify(settings: MatrixSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        client = MatrixClient(settings, settings.read_token(PLATFORM))
        try:
            return (await log_in(client, settings)).user_id
        finally:
            await client.close()

    @staticmethod
    async def examine(settings: MatrixSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await examine(settings, settings.read_token(PLATFORM))

    async def start(self) -> None:
        settings, token = self._settings, self._settings.read_token(PLATFORM)
        encrypted = is_possible(settings)
        self._client = client = MatrixClient(settings, token, encryption=encrypted)
        known = await log_in(client, settings)
        if encrypted and known.device_id:
            self._folder = await asyncio.to_thread(KeysFolder, settings.keys_folder, known.user_id)
            try:
                client.restore_login(known.user_id, known.device_id, token)
            except Exception as error:  # of a damaged file of keys
                raise PlatformRefused(
                    f"[matrix] keys_folder {settings.keys_folder}: the keys can't be read ({type(error).__name__})"
                ) from error
        if client.olm is None:
            _log.info("Matrix: %s", why_not(settings))
        commands = frozenset(info.name for info in self._dialogue.commands("en", Role.ADMIN))
        name = await self._name_of(client, known.user_id)
        self._me = Self(known.user_id, name, settings.threads, commands, self._sent)
        self._buttons = Buttons(client, self._paces, settings.edit_interval_s, shown=settings.buttons)
        self._rooms = Rooms(client, self._dialogue, strangers=settings.strangers)
        self._sync = Sync(client, self._dialogue, self._take, poll_timeout_s=settings.poll_timeout_s)
        try:
            await self._sync.begin()
        except NotWritten as error:
            raise await refusal(client, settings, error) from error
        except StoreError as error:
            raise AdapterError(f"Matrix: where we were can't be read: {error}") from error
        _log.info("Matrix: %s is listening", known.user_id)

    async def run(self) -> None:
        serving = self._deliveries.serve(PLATFORM, self._begin, self._stopped, self._remove)
        await self._running.run(reconnecting(self._sync.listen, self._connect), serving)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._running.end()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._aside.drain(_DRAIN_S))
        client, self._client = self._client, None
        if client is not None:
            if hasattr(self, "_rooms"):
                await asyncio.gather(self._buttons.drain(_DRAIN_S), self._rooms.drain(0))
            await client.close()
            if client.store is not None:
                client.store.database.close()
        if self._folder is not None:
            self._folder.close()

    async def _connect(self) -> None:
        """Raises AdapterError."""
        if self._client is not None:
            await log_in(self._client, self._settings)

    async def _name_of(self, client: MatrixClient, user: str) -> str:
        """What people call it; "" where that is not known."""
        with suppress(OSError, TimeoutError, aiohttp.ClientError, ValueError):
            return text_of(await client.look(f"/v3/profile/{in_path(user)}/displayname"), "displayname")[:200]
        return ""

    # ---- receiving -------------------------------------------------------------------------------------------

    async def _take(self, told: SyncResponse, at_start: bool) -> bool:
        """Whether something of it was said to us. Raises StoreError."""
        for room, invitation in told.rooms.invite.items():
            self._rooms.invited(room, [*map(source_of, invitation.invite_state)])
        mattered = False
        for room, info in told.rooms.join.items() if not at_start else ():
            events: list[Fields] = [*map(source_of, info.timeline.events)]
            said = since_invited(events, self._me.user)
            if said is not events:
                self._rooms.entered(room, [*map(source_of, info.state), *events])
            for number, event in enumerate(said):
                mattered |= await self._take_event(event, room)
                if number % _EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        if self._client is not None:
            for room in told.rooms.leave:
                self._client.rooms.pop(room, None)
        return mattered

    async def _take_event(self, event: Fields, room: str) -> bool:
        """Raises StoreError."""
        client = self._client
        if client is None:
            return False
        try:
            if is_too_old(event, time.time(), _OLDEST_S):
                return False
            read = from_event(event, place_of(client, room), self._me)
            return read is not None and await self._accept(read, event)
        except StoreError:
            raise
        except Exception as error:  # whatever a malformed event trips over
            # Neither what was said nor by whom: an error's words may hold it.
            if self._quiet.lets(type(error).__name__):
                _log.warning("Matrix: an event that can't be taken is left out (%s)", type(error).__name__)
            return False

    async def _accept(self, read: Read, event: Fields) -> bool:
        """Raises StoreError."""
        match read:
            case Message():
                await self._ask(await self._with_quote(read))
            case Edited():
                edited = await self._in_its_place(read.message)
                if edited is None:
                    return False
                await self._ask(edited)
            case Reacted():
                if self._pressing < _MOST_PRESSES:
                    self._pressing += 1
                    self._aside.begin(self._press(read))
            case Deleted():
                where, ref = partial(self._where, read.room, read.ref, read.at), read.ref
                self._aside.begin(
                    self._deliveries.take_away(PLATFORM, self._dialogue, ref, where, self._remove)
                )
            case Upgraded():
                self._rooms.upgraded(read.old, read.new, text_of(event, "sender"))
            case Unreadable():
                self._rooms.unreadable(read.room)
        return True

    async def _ask(self, message: Message) -> None:
        """Raises StoreError."""
        room = self._rooms.now(message.conversation.chat)
        message = replace(message, conversation=replace(message.conversation, chat=room))
        self._asked.put((message.conversation.chat, message.ref), message.conversation)
        await self._dialogue.accept(message)

    async def _with_quote(self, message: Message) -> Message:
        """Clients of today do not repeat what they reply to."""
        about, room = message.replies_to, message.conversation.chat
        if not about or message.quoted or message.addressed is Addressed.NOT or about in self._sent:
            return message
        client, now = self._client, asyncio.get_running_loop().time
        if client is None or (began := now()) < self._looks_from:
            return message
        try:
            async with asyncio.timeout(_LOOK_S):
                found = await client.look(f"/v3/rooms/{in_path(room)}/event/{in_path(about)}")
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError):
            return message
        finally:
            if now() - began > _SLOW_LOOK_S:
                self._looks_from = now() + _NO_LOOKS_S
        if found.get("sender") == self._me.user:
            # Its words are in the history.
            self._sent.put(about, None)
            return message
        words = fields_of(found, "content").get("body")
        return replace(message, quoted=words) if isinstance(words, str) else message

    async def _in_its_place(self, message: Message) -> Message | None:
        """None where it is another's question, which a homeserver tells all the same:
        https://spec.matrix.org/v1.15/client-server-api/#validity-of-replacement-events. Raises StoreError."""
        where = await self._where(message.conversation.chat, message.ref, message.act.at)
        if where is None:
            thread = message.ref if message.conversation.thread else ""
            where = replace(message.conversation, thread=thread)
        elif where.user != message.user.id:
            return None
        return replace(message, conversation=where)

    async def _where(self, room: str, ref: str, at: float) -> ConversationKey | None:
        """Where the question was asked. Raises StoreError."""
        room = self._rooms.now(room)
        return self._asked.get((room, ref)) or await self._dialogue.asked_in(
            ChatKey(PLATFORM, room), ref, max(0.0, at - _ASKED_WITHIN_S)
        )

    async def _press(self, reacted: Reacted) -> None:
        """A reaction like one of the bot's under its answer. That of somebody else than who asked says nothing."""
        try:
            place = reacted.place
            under = await self._buttons.under(place.room, reacted.under)
            command = "" if under is None else under.command(reacted.key)
            if under is None or not command or not under.asker:
                return
            message = _pressed(reacted, place, command, under.asker, under.thread)
            if under.asker == reacted.user or asks_of_tools(message):
                await self._dialogue.accept(message)
        except StoreError as error:
            _log.error("Matrix: a pressed button could not be stored: %s", error)
        except ValueError:
            pass
        finally:
            self._pressing -= 1

    async def _remove(self, conversation: ConversationKey, events: Sequence[str]) -> None:
        client = self._client
        if client is not None:
            pace = self._paces.of(conversation.chat, self._settings.edit_interval_s)
            await remove_each("Matrix", pace, events, lambda event: redact(client, conversation.chat, event))

    # ---- answering -------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        if self._client is None:
            raise AdapterError("Matrix: it is not started")
        outlet = MatrixOutlet(
            self._client,
            message,
            self._buttons,
            room_now=self._rooms.now,
            sent=lambda event: self._sent.put(event, None),
        )
        pace = self._paces.of(message.conversation.chat, self._settings.edit_interval_s)
        self._deliveries.begin(message, outlet, pace, earlier)

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """The answer that was stopped says so itself."""


def _pressed(reacted: Reacted, place: Place, command: str, asker: str, thread: str) -> Message:
    """Raises ValueError."""
    return Message(
        update_id=reacted.update_id,
        conversation=ConversationKey(PLATFORM, place.room, asker, thread),
        user=UserKey(PLATFORM, reacted.user),
        text=f"/{command}",
        chat_kind=ChatKind.PRIVATE if place.private else ChatKind.GROUP,
        intent=Press(reacted.under),
    )
