"""A chat that has another number now, or a person: in Redis, a page at a time, each of which may be repeated.

Turns get the ids that follow those of the new conversation, by a `shift` that the old one's meta keeps.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from glmbot.keys import NOBODY, ChatKey, ConversationKey, UserKey, in_chat, owner_from
from glmbot.store.message_json import kept_json, message_from_json, message_to_json
from glmbot.store.records import Turn
from glmbot.store.redis_blobs import RedisBlobs
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import (
    RedisHistories,
    conversation_of,
    moved_of,
    number_of,
    turn_body,
    turns_of,
)
from glmbot.store.redis_inbox import user_of
from glmbot.store.redis_keys import RedisKeys
from glmbot.store.redis_notes import RedisNotes
from glmbot.store.ways import Move, moved_conversation

__all__ = ["RedisMoves"]

_log = logging.getLogger(__name__)

_AT_ONCE = 50
_MOVES_AT_ONCE = 5
# Ids kept free for answers that end in the old conversation while, or after, it is moved.
_LATE = 1000
_LOOKED_AT_EVERY_S = 60.0
_FOLLOWED_S = 3600.0
# What is left of an old conversation outlives the last look at it, and no more.
_LEFT_S = 7200
# Who has a conversation while what waits in it is moved: no process, so that none answers it under its old name.
_MOVER = "moving"
_MOVER_MS = 30_000


class RedisMoves:
    def __init__(
        self,
        connection: RedisConnection,
        keys: RedisKeys,
        histories: RedisHistories,
        blobs: RedisBlobs,
        notes: RedisNotes,
    ) -> None:
        self._connection = connection
        self._redis = connection.client
        self._ask, self._each = connection.ask, connection.each
        self._keys = keys
        self._histories = histories
        self._blobs = blobs
        self._notes = notes

    async def begin(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        moves = self._keys.named("moves")
        await self._ask(self._redis.hset(moves, str(old), f"{new} {at!r} {at!r}"))

    async def under_way(self) -> list[Move]:
        """All moves of late, some of which may still be going on."""
        moves: dict[str, str] = await self._ask(self._redis.hgetall(self._keys.named("moves")))
        found: list[Move] = []
        for old, value in moves.items():
            # What is damaged is told, and taken out, by `pending`.
            with suppress(ValueError):
                found.append((owner_from(old), owner_from(value.partition(" ")[0])))
        return found

    async def pending(self, now: float) -> list[Move]:
        """Moves of late, not looked at within the last minute: some answers may have ended there since. Those that
        have waited for it longest."""
        moves: dict[str, str] = await self._ask(self._redis.hgetall(self._keys.named("moves")))
        due: list[tuple[float, str, str, UserKey | ChatKey, UserKey | ChatKey]] = []
        for old, value in moves.items():
            try:
                new, at, followed = value.split(" ")
                since = now - float(followed)
                # `followed` reads it.
                float(at)
                whose = owner_from(old), owner_from(new)
            except ValueError:
                _log.error("a move in the store can't be read and is left out: %.100r", old)
                await self._ask(self._redis.hdel(self._keys.named("moves"), old))
                continue
            if not 0 <= since < _LOOKED_AT_EVERY_S:
                due.append((float(followed), old, f"{new} {at}", *whose))
        found: list[Move] = []
        for _, old, value, before, after in sorted(due, key=lambda each: each[:2])[:_MOVES_AT_ONCE]:
            await self._ask(self._redis.hset(self._keys.named("moves"), old, f"{value} {now!r}"))
            found.append((before, after))
        return found

    async def followed(self, old: UserKey | ChatKey, now: float) -> None:
        """It was looked at; after a while nothing more is expected of the old one, and nothing tells of it."""
        moves = self._keys.named("moves")
        value: str | None = await self._ask(self._redis.hget(moves, str(old)))
        # `pending` has read it.
        if value is not None and abs(now - float(value.split(" ")[1])) > _FOLLOWED_S:
            await self._ask(self._redis.hdel(moves, str(old)))

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> list[ConversationKey]:
        """Returns the conversations that have something to be answered now. Raises StoreError."""
        announced: list[ConversationKey] = []
        await self._move_settings(old, new)
        for conversation in await self._old_conversations(old):
            target = moved_conversation(conversation, old, new)
            await self._blobs.move(conversation, target, old, new)
            if target == conversation:
                await self._rename(conversation, old, new)
                continue
            shift = await self._make_room(conversation, target)
            if shift is not None:
                await self._move_turns(conversation, target, shift, old, new)
            while await self._move_messages(conversation, target, shift or 0, old, new):
                if target not in announced:
                    announced.append(target)
            await self._end(conversation, target, old)
        return announced

    async def _old_conversations(self, old: UserKey | ChatKey) -> list[ConversationKey]:
        if isinstance(old, UserKey):
            places = await self._histories.places(old)
            files = [conversation_of(name) for name in await self._blobs.places(old)]
            return [*places, *(each for each in files if each is not None and each not in places)]
        pattern = f"{in_chat(old.platform, old.id)}*"
        names: set[str] = set(
            await self._ask(self._redis.smembers(self._keys.named(f"pending:{old.platform}")))
        )
        recent = self._keys.named(f"recent:{old.platform}")
        names |= {
            name async for name, _ in self._each(self._redis.zscan_iter(recent, match=pattern, count=1000))
        }
        letters = self._keys.named("letters")
        async for name, _ in self._each(self._redis.zscan_iter(letters, match=pattern, count=1000)):
            names.add(name.partition(" ")[0])
        names |= await self._blobs.places_like(old.platform, pattern)
        found = [conversation_of(name) for name in sorted(names)]
        return [
            each
            for each in found
            if each is not None and (each.platform, each.chat) == (old.platform, old.id)
        ]

    async def _move_settings(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        """What the new owner has already stays as it is."""
        owners = [(str(old), str(new))]
        if isinstance(old, UserKey):
            chats = await self._ask(self._redis.smembers(self._keys.owner(old, "chats")))
            owners += [(chat, f"{new}{chat.removeprefix(str(old))}") for chat in chats]
            if chats:
                moved = [after for _, after in owners[1:]]
                await self._ask(self._redis.sadd(self._keys.owner(new, "chats"), *moved))
        for before, after in owners:
            settings = await self._ask(self._redis.hgetall(self._keys.owner(before, "settings")))
            given = [
                name
                for name, value in settings.items()
                if await self._ask(self._redis.hsetnx(self._keys.owner(after, "settings"), name, value))
            ]
            write = self._redis.pipeline(transaction=False)
            if settings:
                write.zadd(self._keys.named("everyone"), {after: 0})
            if settings and isinstance(owner_from(after), UserKey):
                write.zadd(self._keys.named("persons"), {after: 0})
            if "pairing" in settings:
                write.sadd(self._keys.named("having:pairing"), after)
            write.srem(self._keys.named("having:pairing"), before)
            write.zrem(self._keys.named("everyone"), before)
            write.zrem(self._keys.named("persons"), before)
            # One hash tag, so one server; what was asked by the new number within the hour is counted too.
            asked = [self._keys.asked(after), self._keys.asked(before)]
            write.zunionstore(asked[0], asked, aggregate="MAX")
            write.expire(asked[0], 3601)
            write.delete(asked[1])
            await self._ask(write.execute())
            if not await self._ask(self._redis.delete(self._keys.owner(before, "settings"))) and given:
                # They were forgotten while they were on their way.
                await self._ask(self._redis.hdel(self._keys.owner(after, "settings"), *given))
        if isinstance(old, UserKey) and isinstance(new, UserKey):
            await self._notes.move(old, new)
            await self._ask(self._redis.delete(self._keys.owner(old, "chats")))

    async def _make_room(self, old: ConversationKey, new: ConversationKey) -> int | None:
        """The shift of turn ids; None when there have never been any to be moved."""
        meta: dict[str, str] = await self._ask(self._redis.hgetall(self._keys.of(old, "meta")))
        last, head, epoch = (number_of(meta.get(name)) for name in ("last_id", "head", "epoch"))
        moved = moved_of(meta.get("moved"))
        if moved is not None and moved[0] != new:
            moved = None
        if not await self._ask(self._redis.exists(self._keys.of(old, "tree"))):
            # They were moved already, and what waits may still name them.
            return None if moved is None else moved[1]
        if moved is not None and last <= moved[2]:
            return await self._adopt(old, new, *moved[1:], epoch)
        now = await self._ask(self._redis.hget(self._keys.of(new, "meta"), "last_id"))
        return await self._adopt(old, new, number_of(now), last + _LATE, head, epoch)

    async def _adopt(
        self, old: ConversationKey, new: ConversationKey, shift: int, upto: int, head: int, epoch: int
    ) -> int:
        keys = self._keys.all_of(new, ("meta", "tree", "children"))
        while True:
            words = f"{new} {shift} {upto} {head}"
            await self._ask(self._redis.hset(self._keys.of(old, "meta"), "moved", words))
            given = (str(old), str(shift), str(upto), str(head), str(epoch))
            last = int(await self._connection.run("adopt", keys, *given))
            if last < 0:
                return shift
            shift = last

    async def _move_turns(
        self,
        old: ConversationKey,
        new: ConversationKey,
        shift: int,
        before: UserKey | ChatKey,
        after: UserKey | ChatKey,
    ) -> None:
        tree, cursor = self._keys.of(old, "tree"), 0
        while True:
            state = await self._histories.state(new)
            # A page may be empty where others are not.
            following, stored = await self._ask(self._redis.hscan(tree, cursor, count=_AT_ONCE))
            turns = turns_of(stored.items())
            if not await self._copy(turns, old, new, shift, before, after, state):
                # Something was removed there meanwhile, which must not come back: what is left of this page?
                continue
            readable = {str(turn.id) for turn in turns}
            for user in {turn.user for turn in turns}:
                ids = [str(turn.id) for turn in turns if turn.user == user]
                await self._drop(old, str(user), ids)
            if damaged := [number for number in stored if number not in readable]:
                await self._drop(old, "", damaged)
            cursor = following
            if not cursor:
                return

    async def _copy(
        self,
        turns: Sequence[Turn],
        old: ConversationKey,
        new: ConversationKey,
        shift: int,
        before: UserKey | ChatKey,
        after: UserKey | ChatKey,
        state: str,
    ) -> bool:
        """False when nothing was written, since something was removed from the new conversation after `state`."""
        if not turns:
            return True
        moved = moved_of(await self._ask(self._redis.hget(self._keys.of(old, "meta"), "moved")))
        begun = (moved[2] if moved is not None else 0) - _LATE
        given = [state, str(begun + shift), self._keys.turns_of(new, "")]
        people: set[UserKey] = set()
        for turn in sorted(turns, key=lambda turn: turn.id):
            user = after if isinstance(after, UserKey) and turn.user == before else turn.user
            people.add(user)
            await self._histories.note(new, user, turn.at, later=True)
            await self._ask(self._redis.zadd(self._keys.named("ages"), {str(new): turn.at}, lt=True))
            parent = turn.parent and turn.parent + shift
            refs = await self._histories.shown(old, turn.id)
            given += [str(turn.id + shift), str(parent), str(user), repr(turn.at)]
            given += [
                turn_body(turn.question, turn.answer, turn.ref, turn.thought, turn.parts),
                turn.ref,
                str(len(refs)),
                *refs,
            ]
        keys = self._keys.all_of(new, ("tree", "meta", "anchors", "refs", "children", "people"))
        if await self._connection.run("copy", keys, *given):
            return True
        for user in people:
            await self._histories.unnote(new, user)
        return False

    async def _drop(self, conversation: ConversationKey, user: str, ids: Sequence[str]) -> None:
        write = self._redis.pipeline(transaction=True)
        write.hdel(self._keys.of(conversation, "tree"), *ids)
        write.zrem(self._keys.of(conversation, "children"), *ids)
        write.zrem(self._keys.turns_of(conversation, user), *ids)
        await self._ask(write.execute())

    async def _move_messages(
        self,
        old: ConversationKey,
        new: ConversationKey,
        shift: int,
        before: UserKey | ChatKey,
        after: UserKey | ChatKey,
    ) -> bool:
        """Dead letters, and some of what waits, unless it is being answered. False when nothing waits any more."""
        queue, letters = self._keys.of(old, "queue"), self._keys.named("letters")
        names = [
            name.partition(" ")[2]
            async for name, _ in self._each(self._redis.zscan_iter(letters, match=f"{old} *", count=1000))
        ]
        claim = self._keys.of(old, "claim")
        waiting: list[str] = []
        try:
            if await self._ask(self._redis.set(claim, _MOVER, px=_MOVER_MS, nx=True)):
                waiting = await self._ask(self._redis.zrange(queue, 0, _AT_ONCE - 1))
            for update_id in (*names, *waiting):
                while not await self._move_message(update_id, old, new, shift, before, after):
                    pass
        finally:
            await self._connection.run("release", [claim], _MOVER)
        return bool(waiting)

    async def _move_message(
        self,
        update_id: str,
        old: ConversationKey,
        new: ConversationKey,
        shift: int,
        before: UserKey | ChatKey,
        after: UserKey | ChatKey,
    ) -> bool:
        """False when it was left there, since something was removed from the new conversation meanwhile."""
        inbox, letters = self._keys.of(old, "inbox"), self._keys.named("letters")
        kinds = ("message", "dead", "answer", "turn", "marks")
        fields = [f"{kind} {update_id}" for kind in kinds]
        state = await self._histories.state(new)
        found = await self._ask(self._redis.hmget(inbox, fields))
        values: dict[str, Any] = dict(zip(kinds, found, strict=True))
        if values["turn"]:
            values["turn"] = str(number_of(values["turn"]) + shift)
        user = after if isinstance(after, UserKey) else None
        for kind in ("message", "dead"):
            if values[kind]:
                values[kind] = _rewritten(values[kind], new, before, user)
        if values["message"] or values["dead"]:
            pairs = [part for kind, value in values.items() if value for part in (kind, value)]
            keys = self._keys.all_of(new, ("inbox", "seen", "queue", "meta"))
            if not await self._connection.run(
                "bring", keys, state, update_id, repr(_time_of(values)), *pairs
            ):
                return False
        if values["dead"]:
            score = await self._ask(self._redis.zscore(letters, f"{old} {update_id}"))
            await self._ask(self._redis.zadd(letters, {f"{new} {update_id}": score or 0}))
        await self._ask(self._redis.zrem(letters, f"{old} {update_id}"))
        away = self._redis.pipeline(transaction=True)
        away.hdel(inbox, *fields)
        away.zrem(self._keys.of(old, "queue"), update_id)
        await self._ask(away.execute())
        return True

    async def _end(self, old: ConversationKey, new: ConversationKey, before: UserKey | ChatKey) -> None:
        """Leave no mention of the old conversation that nothing is left in."""
        if await self._ask(self._redis.exists(self._keys.of(old, "tree"))):
            return
        people = [
            person
            async for person in self._each(self._redis.sscan_iter(self._keys.of(old, "people"), count=500))
        ]
        if isinstance(before, UserKey):
            people.append(str(before))
        else:
            people.append(str(UserKey(old.platform, old.user or NOBODY)))
        write = self._redis.pipeline(transaction=False)
        write.zrem(self._keys.named(f"recent:{old.platform}"), str(old))
        write.zrem(self._keys.named("ages"), str(old))
        if not await self._ask(self._redis.exists(self._keys.of(old, "queue"))):
            for person in people:
                write.zrem(self._keys.owner(person, "places"), str(old))
        # A cluster's pipeline takes no UNLINK.
        await self._ask(self._redis.unlink(*self._keys.all_of(old, ("people", "anchors", "refs"))))
        if not await self._ask(self._redis.exists(self._keys.of(old, "queue"))):
            for key in self._keys.all_of(old, ("meta", "inbox", "seen")):
                write.expire(key, _LEFT_S)
        left = [await self._ask(self._redis.exists(self._keys.of(new, part))) for part in ("tree", "queue")]
        if not any(left):
            # All that it got was forgotten.
            write.expire(self._keys.of(new, "meta"), _LEFT_S)
        await self._ask(write.execute())

    async def _rename(
        self, conversation: ConversationKey, old: UserKey | ChatKey, new: UserKey | ChatKey
    ) -> None:
        """A conversation of several people, one of whom has another number."""
        if not isinstance(old, UserKey) or not isinstance(new, UserKey):
            return
        key = self._keys.turns_of(conversation, old)
        keys = [
            *self._keys.all_of(conversation, ("tree", "people")),
            key,
            self._keys.turns_of(conversation, new),
        ]
        while newest := await self._ask(self._redis.zrange(key, -_AT_ONCE, -1, withscores=True)):
            await self._histories.note(conversation, new, newest[-1][1], later=True)
            if not await self._connection.run(
                "rename", keys, str(old), str(new), *(each for each, _ in newest)
            ):
                await self._histories.unnote(conversation, new)
        await self._ask(self._redis.srem(self._keys.of(conversation, "people"), str(old)))
        inbox = self._keys.of(conversation, "inbox")
        async for _, value in self._each(self._redis.hscan_iter(inbox, match="message *", count=200)):
            if user_of(value) == str(old):
                # It is answered under the old number, and found there by who wants to be forgotten.
                return
        await self._ask(self._redis.zrem(self._keys.owner(old, "places"), str(conversation)))


def _rewritten(value: str, new: ConversationKey, before: UserKey | ChatKey, after: UserKey | None) -> str:
    """The message as of its new conversation. One that can't be read stays as it is: whoever meets it sets it
    aside."""
    top, _, body = value.rpartition("\n")
    try:
        message = message_from_json(kept_json(body))
    except ValueError:
        return value
    user = after if after is not None and message.user == before else message.user
    return f"{top}\n{json.dumps(message_to_json(replace(message, conversation=new, user=user)))}"


def _time_of(values: dict[str, Any]) -> float:
    lines = (values["message"] or values["dead"] or "").split("\n")
    try:
        return float(lines[0 if values["message"] else 1].partition(" ")[2])
    except (ValueError, IndexError):
        return 0.0
