"""The inbox in Redis: what waits to be answered, and what was set aside, damaged fields among it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from glmbot.errors import ClaimLost
from glmbot.keys import NOBODY, ConversationKey, UserKey
from glmbot.messages import Message, Unfinished
from glmbot.store.base import CLAIMED_AT_ONCE
from glmbot.store.message_json import (
    answer_from_json,
    kept_json,
    marks_from_json,
    message_from_json,
    message_to_json,
)
from glmbot.store.ownership import is_gone
from glmbot.store.records import Backlog, Claim, DeadLetter, StoredAnswer
from glmbot.store.redis_histories import conversation_of, moved_of, number_of
from glmbot.store.redis_part import RedisPart

__all__ = ["RedisInbox", "user_of"]

_log = logging.getLogger(__name__)

_LETTERS_AT_ONCE = 500


class RedisInbox(RedisPart):
    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        await self._ask(self._redis.sadd(self._keys.named("platforms"), message.user.platform))
        await self._place(message.user, message.conversation, at)
        await self._claims.open(message.conversation)
        accepted = int(
            await self._script(
                "accept",
                message.conversation,
                ("inbox", "seen", "queue"),
                message.update_id,
                json.dumps(message_to_json(message)),
                repr(at),
                repr(at - self._update_ids_kept_s),
                self._left_s,
            )
        )
        if accepted:
            # Whoever was forgotten meanwhile is mentioned nowhere, and has asked this.
            await self._place(message.user, message.conversation, at)
        if announce and accepted:
            # Also for one that came before: whoever accepted it may have died right here.
            await self._claims.announce(message.conversation)
        return accepted == 1

    async def _place(self, user: UserKey, conversation: ConversationKey, at: float) -> None:
        places = [self._keys.owner(user, "places")]
        await self._connection.run("place", places, str(conversation), repr(at), self._left_s)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        pairs = [part for pair in marks.items() for part in pair]
        await self._change("mark", message, (), *pairs)

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        parts = ("tree", "anchors", "refs", "queue", "meta")
        moved = await self._change("delivered", message, parts, self._left_s, *shown)
        if isinstance(moved, str):
            way, _, turn = moved.rpartition(" ")
            if (there := moved_of(way)) is not None:
                new, shift, *_ = there
                keys = self._keys.all_of(new, ("tree", "anchors", "refs"))
                await self._connection.run("anchor", keys, str(number_of(turn) + shift), *shown)
        letter = f"{message.conversation} {message.update_id}"
        await self._ask(self._redis.zrem(self._keys.named("letters"), letter))

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        found: list[_Entry] = []
        for conversation in await self._claims.pending_conversations(platform):
            found += await self._open_in(conversation, -1)
        return [
            entry.unfinished for entry in sorted(found, key=lambda entry: entry.order) if entry.unfinished
        ]

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        found = await self._open_in(conversation, CLAIMED_AT_ONCE - 1)
        return [entry.unfinished for entry in found if entry.unfinished]

    async def _open_in(self, conversation: ConversationKey, last: int) -> list[_Entry]:
        """In the order of arrival, up to the one of that index; -1: all."""
        ids = await self._ask(self._redis.zrange(self._keys.of(conversation, "queue"), 0, last))
        inbox = self._keys.of(conversation, "inbox")
        fields: list[str] = []
        for update_id in ids:
            values = await self._ask(self._redis.hmget(inbox, [f"message {update_id}", f"marks {update_id}"]))
            # One without a message was delivered meanwhile.
            fields += [update_id, values[0], values[1] or "{}"] if values[0] is not None else []
        return await self._whole(conversation, _entries(conversation, fields))

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        said = json.dumps(message_to_json(message))
        await self._change("join", message, ("queue",), said, *(other.update_id for other in others))

    async def _whole(self, conversation: ConversationKey, found: Sequence[_Entry]) -> list[_Entry]:
        """Those that can be read; the others are set aside with the reason, and nobody waits for them."""
        for entry in found:
            if entry.unfinished is None:
                nobody = UserKey(conversation.platform, NOBODY)
                with suppress(ClaimLost):
                    await self.set_aside(
                        Message(entry.update_id, conversation, nobody, ""), entry.reason, time.time()
                    )
                _log.error("a message in the store can't be read and is set aside: %s", entry.reason)
        return [entry for entry in found if entry.unfinished is not None]

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        letter = {f"{message.conversation} {message.update_id}": at}
        await self._ask(self._redis.zadd(self._keys.named("letters"), letter))
        if await self._change("set_aside", message, ("queue",), f"{at!r} {' '.join(reason.split())}"):
            # Who listed them meanwhile found none under that name, and took the name out.
            await self._ask(self._redis.zadd(self._keys.named("letters"), letter))

    async def dead_letters(self) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        letters, start = self._keys.named("letters"), 0
        while page := await self._ask(self._redis.zrange(letters, start, start + _LETTERS_AT_ONCE - 1)):
            start += len(page)
            for name in page:
                place, _, update_id = name.partition(" ")
                conversation = conversation_of(place)
                dead: str | None = None
                if conversation is not None:
                    inbox = self._keys.of(conversation, "inbox")
                    dead = await self._ask(self._redis.hget(inbox, f"dead {update_id}"))
                if conversation is None or dead is None:
                    start -= int(await self._ask(self._redis.zrem(letters, name)))
                    continue
                found.append(_letter(conversation, update_id, dead))
        return sorted(found, key=lambda letter: letter.at)

    async def replay(self, message: Message) -> bool:
        dead = await self._ask(
            self._redis.hget(self._keys.of(message.conversation, "inbox"), f"dead {message.update_id}")
        )
        if dead is None or not _is_whole(message.conversation, message.update_id, dead):
            return False
        await self._claims.open(message.conversation)
        if not await self._script("replay", message.conversation, ("inbox", "queue"), message.update_id):
            return False
        letter = f"{message.conversation} {message.update_id}"
        await self._ask(self._redis.zrem(self._keys.named("letters"), letter))
        await self._claims.announce(message.conversation)
        return True

    async def drop(self, message: Message) -> bool:
        key = self._keys.of(message.conversation, "inbox")
        if not await self._ask(self._redis.hexists(key, f"dead {message.update_id}")):
            return False
        await self.delivered(message)
        return True

    async def backlog(self) -> Backlog:
        platforms = await self._ask(self._redis.smembers(self._keys.named("platforms")))
        waiting = [await self._claims.pending(platform) for platform in platforms]
        return Backlog(sum(waiting), int(await self._ask(self._redis.zcard(self._keys.named("letters")))))

    async def answer(self, message: Message) -> StoredAnswer | None:
        inbox, field = self._keys.of(message.conversation, "inbox"), f"answer {message.update_id}"
        stored: str | None = await self._ask(self._redis.hget(inbox, field))
        if stored is None:
            return None
        try:
            return answer_from_json(kept_json(stored))
        except ValueError as error:
            # It is answered once more.
            _log.error("an answer in the store can't be read: %s", error)
            await self._ask(self._redis.hdel(inbox, field))
            return None

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        parts = ("inbox", "claim", "queue")
        given = (self.owner, str(int(lasts_s * 1000)))
        most = str(CLAIMED_AT_ONCE)
        owner, *fields = await self._script("claim", conversation, parts, *given, "", most)
        if owner != self.owner and is_gone(owner):
            owner, *fields = await self._script("claim", conversation, parts, *given, owner, most)
        if owner != self.owner:
            return Claim(owner)
        # By the inbox's own count: the clocks of several machines differ.
        found = await self._whole(conversation, _entries(conversation, fields))
        if fields and not found:
            return await self.claim(conversation, lasts_s)
        if not found:
            await self._claims.settled(conversation, nothing_open=True)
        return Claim(owner, [entry.unfinished for entry in found if entry.unfinished is not None])


@dataclass(frozen=True, slots=True)
class _Entry:
    """`unfinished` None: it can't be read, for that `reason`. `order`: by time, then by the inbox's own count."""

    update_id: str
    unfinished: Unfinished | None
    order: tuple[float, int] = (0.0, 0)
    reason: str = ""


def _entries(conversation: ConversationKey, fields: Sequence[str]) -> list[_Entry]:
    """fields: update id, message and marks of each, as the script `claim` returns them."""
    return [_entry(conversation, *each) for each in zip(fields[::3], fields[1::3], fields[2::3], strict=True)]


def _entry(conversation: ConversationKey, update_id: str, value: str, marks: str) -> _Entry:
    try:
        head, _, body = value.partition("\n")
        arrival, _, at = head.partition(" ")
        message = _message(conversation, update_id, body)
        return _Entry(update_id, Unfinished(message, marks_from_json(marks)), (float(at), int(arrival)))
    except (ValueError, TypeError) as error:
        return _Entry(update_id, None, reason=f"damaged in the store: {error}"[:300])


def _letter(conversation: ConversationKey, update_id: str, value: str) -> DeadLetter:
    """Of a damaged one what its place says: enough to drop it by."""
    head, _, rest = value.partition("\n")
    at, _, reason = head.partition(" ")
    try:
        message = _message(conversation, update_id, rest.partition("\n")[2])
    except (ValueError, TypeError):
        message = Message(
            update_id, conversation, UserKey(conversation.platform, conversation.user or NOBODY), ""
        )
    try:
        return DeadLetter(message, reason, float(at))
    except ValueError:
        return DeadLetter(message, reason, 0.0)


def user_of(value: str) -> str:
    """Whose message it is; "" when that can't be read."""
    try:
        found = kept_json(value.rpartition("\n")[2])
        return str(found.get("user", "")) if isinstance(found, dict) else ""
    except ValueError:
        return ""


def _message(conversation: ConversationKey, update_id: str, body: str) -> Message:
    message = message_from_json(kept_json(body))
    if (message.conversation, message.update_id) != (conversation, update_id):
        raise ValueError("a message is filed as another one")
    return message


def _is_whole(conversation: ConversationKey, update_id: str, dead: str) -> bool:
    message = dead.partition("\n")[2]
    (entry,) = _entries(conversation, [update_id, message, "{}"])
    return entry.unfinished is not None
