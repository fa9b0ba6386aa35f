"""Where the bot is: who may have it come, rooms that were upgraded, and what it says in a room that it can't read.

https://spec.matrix.org/v1.15/client-server-api/#room-upgrades: an old room names its successor in
m.room.tombstone, and the new one its predecessor in m.room.create. Either by itself may be a lie of who made
that room.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Protocol, cast

import aiohttp

from glmbot.background import Background
from glmbot.delivery.outlet import Flooded, NotWritten, Unreachable
from glmbot.delivery.recent import Recent
from glmbot.errors import StoreError
from glmbot.http.fields import Fields, fields_of, parsed
from glmbot.http.quiet import Quiet
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import ChatKind, Message
from glmbot.ports import Chats, Doors, Keeps
from glmbot_matrix.client import MatrixClient, in_path
from glmbot_matrix.delivery import transaction
from glmbot_matrix.normalize import PLATFORM, Place, room_id
from glmbot_matrix.refusals import ask

__all__ = ["Rooms", "is_wanted", "place_of"]

_log = logging.getLogger(__name__)

_MOST_MOVED = 1000
_MOST_HOPS = 8
_MOST_WAITING = 200
_MOST_STRANGERS, _HOUR_S = 20, 3600.0
_TRIES = 3
# Of one's tries together, and how many are asked for at once: a slow homeserver holds up nobody else.
_MOST_S = 60.0
_AT_ONCE = 8
_MOST_TOLD = 2000
_TOLD = "matrix told"
# Of the bot's own, in both languages: in a room nobody's is known.
_UNREADABLE = {
    False: "I can't read encrypted rooms here. Please ask me in a room without encryption.\n"
    "我在这里读不了加密房间的消息，请在没有加密的房间里问我。",
    True: "I could not decrypt that: its key was not given to my session. Please ask again; if that does not help,"
    " ask in a room without encryption.\n"
    "我无法解密这条消息：它的密钥没有交给我的会话。请再问一次；如果还是不行，请在没有加密的房间里问我。",
}


class _Wanted(Chats, Keeps, Doors, Protocol): ...


def is_wanted(admitted: bool | None, *, direct: bool, strangers: bool, expected: bool) -> bool:
    """Whether to come. admitted: of who invites. direct: into a chat of the two alone. strangers: whether
    those may have the bot come there, and there were not too many of late. expected: the room follows one
    where the bot is."""
    if admitted is None:
        return expected or (direct and strangers)
    return admitted


def place_of(client: MatrixClient, room: str) -> Place:
    """Private are rooms of two that nobody enters without being asked. Where a homeserver does not say how
    many there are, a room is one of many."""
    known = client.rooms.get(room)
    summary = None if known is None else known.summary
    if known is None or summary is None:
        return Place(room, private=False)
    counts: list[Any] = [summary.joined_member_count, summary.invited_member_count]
    if type(counts[0]) is not int:
        return Place(room, private=False)
    others = counts[1] if type(counts[1]) is int else 0
    return Place(room, private=counts[0] + others <= 2 and known.join_rule != "public")


class Rooms:
    def __init__(self, client: MatrixClient, dialogue: _Wanted, *, strangers: bool) -> None:
        self._client = client
        self._dialogue = dialogue
        self._strangers = strangers
        self._moved = Recent[str, str](_MOST_MOVED)
        # Successors that could not be entered yet.
        self._expected = Recent[str, str](_MOST_MOVED)
        self._came: deque[float] = deque(maxlen=_MOST_STRANGERS)
        self._told: set[str] = set()
        self._work = Background()
        self._waiting: set[str] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # For what is read and written in one.
        self._writing = asyncio.Lock()
        self._quiet = Quiet()

    def now(self, room: str) -> str:
        """Where a room is by now."""
        for _ in range(_MOST_HOPS):
            later = self._moved.get(room)
            if later is None:
                break
            room = later
        return room

    async def drain(self, grace_s: float) -> None:
        await self._work.drain(grace_s)

    # ---- invitations ---------------------------------------------------------------------------------------

    def invited(self, room: str, state: Sequence[Fields]) -> None:
        """Told again at each start until it is answered, so nothing is lost where this is too much at once."""
        mine = next(
            (
                event
                for event in state
                if event.get("type") == "m.room.member"
                and event.get("state_key") == self._client.user_id
                and fields_of(event, "content").get("membership") == "invite"
            ),
            None,
        )
        if mine is None:
            return
        direct = fields_of(mine, "content").get("is_direct") is True
        self._begin(f"invited {room}", self._answer(room, mine.get("sender"), direct=direct))

    async def _answer(self, room: str, inviter: Any, *, direct: bool) -> None:
        where, who = ConversationKey(PLATFORM, room, inviter), UserKey(PLATFORM, inviter)
        message = Message(f"invited {room}", where, who, "", chat_kind=ChatKind.GROUP)
        admitted = await self._dialogue.admits(message)
        now = asyncio.get_running_loop().time()
        few = len(self._came) < _MOST_STRANGERS or self._came[0] < now - _HOUR_S
        wanted = is_wanted(
            admitted,
            direct=direct,
            strangers=self._strangers and few,
            expected=self._expected.get(room) is not None,
        )
        if wanted and admitted is None:
            self._came.append(now)
        request = self._client.join if wanted else self._client.room_leave
        done = await self._patiently(lambda: ask(request(room)))
        if self._quiet.lets("invitation"):
            words = "accepted" if wanted else "refused"
            _log.info(
                "Matrix: %s's invitation is %s%s", who, words, "" if done else ", which could not be said yet"
            )

    # ---- upgraded rooms ------------------------------------------------------------------------------------

    def upgraded(self, old: str, new: str, by: str) -> None:
        """The old one says so."""
        self._begin(f"upgraded {old}", self._follow(old, new, by))

    def entered(self, room: str, events: Sequence[Fields]) -> None:
        """The bot has come to this room; perhaps it follows another one."""
        for event in events:
            if event.get("type") == "m.room.create":
                old = fields_of(fields_of(event, "content"), "predecessor").get("room_id")
                with suppress(ValueError):
                    self._begin(f"entered {room}", self._move(room_id(old), room))

    async def _follow(self, old: str, new: str, by: str) -> None:
        if self.now(old) == new:
            return
        if new not in self._client.rooms:
            server = by.partition(":")[2]
            path = (
                f"/_matrix/client/v3/join/{in_path(new)}?via={in_path(server)}&server_name={in_path(server)}"
            )
            try:
                status, _, _ = await self._client.ask_for("POST", path, "{}")
            except (OSError, TimeoutError, aiohttp.ClientError):
                status = 0
            if status != 200:
                self._expected.put(new, old)
                _log.info("Matrix: room %s was upgraded to %s, where the bot has to be invited", old, new)
                return
        await self._move(old, new)

    async def _move(self, old: str, new: str) -> None:
        """Where both say so."""
        if not (
            await self._says(new, "m.room.create", old) and await self._says(old, "m.room.tombstone", new)
        ):
            return
        chats = [(ChatKey(PLATFORM, old), ChatKey(PLATFORM, new))]
        if place_of(self._client, old).private:
            people = [user for user in self._client.rooms[old].users if user != self._client.user_id]
            chats += [(ChatKey(PLATFORM, old, user), ChatKey(PLATFORM, new, user)) for user in people[:2]]
        async with self._writing:
            for before, after in chats:
                await self._dialogue.moved(before, after)
            self._moved.put(old, new)
        self._expected.take(new)
        _log.info("Matrix: room %s was upgraded to %s, with all that belongs to it", old, new)

    async def _says(self, room: str, kind: str, other: str) -> bool:
        """https://spec.matrix.org/v1.15/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey"""
        path = f"/v3/rooms/{in_path(room)}/state/{kind}"
        content: Mapping[str, Any] = {}

        async def look() -> None:
            nonlocal content
            try:
                content = await self._client.look(path)
            except (OSError, TimeoutError, aiohttp.ClientError) as error:
                raise Unreachable(type(error).__name__) from error

        await self._patiently(look)
        if kind == "m.room.create":
            return fields_of(content, "predecessor").get("room_id") == other
        return content.get("replacement_room") == other

    # ---- rooms that can't be read --------------------------------------------------------------------------

    def unreadable(self, room: str) -> None:
        """Said once in each room."""
        if room not in self._told:
            self._begin(f"unreadable {room}", self._tell(room))

    async def _tell(self, room: str) -> None:
        digest = sha256(room.encode()).hexdigest()[:16]
        if digest not in _list(await self._dialogue.kept(_TOLD)):
            words = _UNREADABLE[self._client.olm is not None]
            content = {"msgtype": "m.notice", "body": words, "m.mentions": {}}
            key = transaction("unreadable", room)
            sent = await self._patiently(
                lambda: ask(
                    self._client.room_send(
                        room, "m.room.message", content, tx_id=key, ignore_unverified_devices=True
                    )
                )
            )
            if not sent:
                return
            async with self._writing:
                told = _list(await self._dialogue.kept(_TOLD))
                await self._dialogue.keep(_TOLD, json.dumps([*told[-_MOST_TOLD:], digest]))
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told.add(room)

    # ---- beside what is said -------------------------------------------------------------------------------

    def _begin(self, name: str, work: Any) -> None:
        """What concerns a single room is done beside what is said everywhere, a few at a time."""
        if name in self._waiting or len(self._waiting) >= _MOST_WAITING:
            work.close()
            return
        self._waiting.add(name)
        self._work.begin(self._one(name, work))

    async def _one(self, name: str, work: Any) -> None:
        try:
            async with self._turns:
                await work
        except (StoreError, ValueError, NotWritten) as error:
            if self._quiet.lets("work"):
                _log.warning("Matrix: what became of a room could not be followed: %s", error)
        finally:
            work.close()
            self._waiting.discard(name)

    async def _patiently(self, request: Any) -> bool:
        """Whether it was done. What is refused for good, or takes too long, is left."""
        try:
            async with asyncio.timeout(_MOST_S):
                return await self._tried(request)
        except TimeoutError:
            return False

    async def _tried(self, request: Any) -> bool:
        for tried in range(1, _TRIES + 1):
            try:
                await request()
            except Flooded as flood:
                await asyncio.sleep(flood.retry_after)
            except Unreachable:
                await asyncio.sleep(tried)
            except NotWritten as error:
                if self._quiet.lets("refused"):
                    _log.info("Matrix: %s", error)
                return False
            else:
                return True
        return False


def _list(text: str) -> list[str]:
    """Nothing of what is no such list."""
    with suppress(ValueError):
        read = parsed(text or "[]")
        if isinstance(read, list):
            return [each for each in cast(list[object], read) if isinstance(each, str)]
    return []
