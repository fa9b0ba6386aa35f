"""What is deleted from Redis a little at a time: who wants to be forgotten, and what has had its time."""

from __future__ import annotations

import asyncio
import logging
import time

from glmbot.keys import ConversationKey, UserKey
from glmbot.store.private_chats import is_alone
from glmbot.store.redis_blobs import RedisBlobs
from glmbot.store.redis_claims import RedisClaims
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import RedisHistories, conversation_of, moved_of
from glmbot.store.redis_inbox import user_of
from glmbot.store.redis_keys import TURN_PARTS, RedisKeys
from glmbot.store.redis_moves import RedisMoves
from glmbot.store.redis_notes import RedisNotes
from glmbot.store.ways import Move, Ways, moved_conversation

__all__ = ["RedisRemoval"]

_log = logging.getLogger(__name__)

# So little that who waits for it does not notice.
_TURNS_AT_ONCE = 10
_PAUSE_S = 0.001
_CONVERSATIONS_AT_ONCE = 10
_INBOX_PARTS = ("inbox", "queue", "seen", "claim")
# Longer than a move holds a page that it has read.
_NOTED_S = 3600
# Longer than an answer takes that was begun before.
_RESETS_KEPT_S = 7 * 86400


class RedisRemoval:
    def __init__(
        self,
        connection: RedisConnection,
        keys: RedisKeys,
        histories: RedisHistories,
        claims: RedisClaims,
        moves: RedisMoves,
        blobs: RedisBlobs,
        notes: RedisNotes,
    ) -> None:
        self._connection = connection
        self._redis = connection.client
        self._ask, self._each = connection.ask, connection.each
        self._keys = keys
        self._histories = histories
        self._claims = claims
        self._moves = moves
        self._blobs = blobs
        self._notes = notes

    async def forget(self, user: UserKey) -> int:
        """See `Removal.forget`. What is begun is finished by `pending` and the next process."""
        await self._ask(self._redis.sadd(self._keys.named("forgetting"), str(user)))
        ways = Ways(await self._moves.under_way())
        # Who has another number now is the same person under both.
        numbers = ways.of_person(user)
        removed = sum([await self._forget(number, ways, renamed=len(numbers) > 1) for number in numbers])
        names = {str(number) for number in numbers}
        moves: dict[str, str] = await self._ask(self._redis.hgetall(self._keys.named("moves")))
        gone = [old for old, value in moves.items() if names & {old, value.partition(" ")[0]}]
        if gone:
            await self._ask(self._redis.hdel(self._keys.named("moves"), *gone))
        await self._ask(self._redis.srem(self._keys.named("forgetting"), str(user)))
        return removed

    async def halfway(self, user: UserKey) -> list[Move]:
        """Moves of histories that this person has in common with others, which are not ended yet.

        What is taken out of the middle of one would leave what the others said in two pieces.
        """
        found: list[Move] = []
        places = await self._histories.places(user)
        for old, new in await self._moves.under_way():
            for place in places:
                common = moved_conversation(place, old, new) != place and not is_alone(place, user)
                if common and await self._ask(self._redis.exists(self._keys.of(place, "tree"))):
                    found.append((old, new))
                    break
        return found

    async def _forget(self, user: UserKey, ways: Ways, *, renamed: bool) -> int:
        removed = 0
        await self._blobs.forget(user)
        while places := await self._histories.places(user):
            for conversation in places:
                way = ways.of_conversation(conversation)
                for each in way:
                    if is_alone(each, user):
                        removed += await self._remove_whole(each, user)
                    else:
                        # An answer in progress can't come back: `finish` needs the message that is removed here.
                        await self._remove_messages(each, user)
                        removed += await self._remove_turns(each, user)
                    if renamed or len(way) > 1:
                        await self._refuse_what_was_read(each)
                key = self._keys.owner(user, "places")
                await self._ask(self._redis.zrem(key, str(conversation)))
            await self._claims.erase({each for each in places if is_alone(each, user)})
        # A move may have brought what it had read before.
        await self._blobs.forget(user)
        await self._notes.forget(user)
        await self._remove_letters(user)
        await self._remove_settings(user)
        return removed

    async def reset(self, conversation: ConversationKey) -> int:
        """See `Removal.reset`. Where it comes from, or goes to, is the same conversation."""
        turns = 0
        for each in Ways(await self._moves.under_way()).of_conversation(conversation):
            keys = self._keys.all_of(each, TURN_PARTS)
            turns += int(
                await self._connection.run("reset", keys, self._keys.of(each, "turns:"), str(_RESETS_KEPT_S))
            )
            await self._blobs.reset(each)
            for index in (f"recent:{each.platform}", "ages"):
                await self._ask(self._redis.zrem(self._keys.named(index), str(each)))
            if each != conversation:
                await self._refuse_what_was_read(each)
        return turns

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        found = await self._histories.turns(conversation, [str(turn)])
        for each in found:
            await self._histories.remove(conversation, str(each.user), [str(turn)])
            await self._histories.renote(conversation, str(each.user))
        moved = moved_of(await self._ask(self._redis.hget(self._keys.of(conversation, "meta"), "moved")))
        if moved is not None and moved[0] != conversation:
            target, shift, *_ = moved
            there = await self._histories.turns(target, [str(turn + shift)])
            for each in there or found:
                await self._histories.remove(target, str(each.user), [str(turn + shift)])

    async def _refuse_what_was_read(self, conversation: ConversationKey) -> None:
        """A move may have read some of what was removed here, and is about to write it."""
        meta = self._keys.of(conversation, "meta")
        await self._ask(self._redis.hset(meta, "removed", time.time_ns() // 1000))
        if not await self._ask(self._redis.exists(self._keys.of(conversation, "tree"))):
            await self._ask(self._redis.expire(meta, _NOTED_S))

    async def pending(self) -> UserKey | None:
        """Somebody whose wish was not carried out to the end."""
        name = await self._ask(self._redis.srandmember(self._keys.named("forgetting")))
        try:
            return None if name is None else UserKey.parse(name)
        except ValueError:
            _log.error("who is to be forgotten can't be read, and is left out: %.100r", name)
            await self._ask(self._redis.srem(self._keys.named("forgetting"), name))
            return None

    async def expire(self, before: float) -> bool:
        """Delete some turns from before that time. True when there were any."""
        ages = self._keys.named("ages")
        names = await self._ask(
            self._redis.zrangebyscore(ages, "-inf", f"({before!r}", start=0, num=_CONVERSATIONS_AT_ONCE)
        )
        for name in names:
            conversation = conversation_of(name)
            oldest: list[float] = []
            people = await self._people(name) if conversation is not None else []
            for person in people:
                key = self._keys.turns_of(name, person)
                ids = await self._ask(
                    self._redis.zrangebyscore(key, "-inf", f"({before!r}", start=0, num=_TURNS_AT_ONCE)
                )
                if ids and conversation is not None:
                    await self._histories.remove(conversation, person, ids)
                first = await self._ask(self._redis.zrange(key, 0, 0, withscores=True))
                oldest += [score for _, score in first]
            if oldest:
                await self._ask(self._redis.zadd(ages, {name: min(oldest)}))
            else:
                await self._ask(self._redis.zrem(ages, name))
                if not await self._ask(self._redis.exists(self._keys.of(name, "tree"))):
                    platform = name.partition(":")[0]
                    await self._ask(self._redis.zrem(self._keys.named(f"recent:{platform}"), name))
        return bool(names)

    async def _people(self, conversation: str) -> list[str]:
        key = self._keys.of(conversation, "people")
        return [person async for person in self._each(self._redis.sscan_iter(key, count=500))]

    async def _remove_whole(self, conversation: ConversationKey, user: UserKey) -> int:
        """UNLINK frees what is large in another thread, so nobody waits."""
        turns = int(await self._ask(self._redis.hlen(self._keys.of(conversation, "tree"))))
        parts = self._keys.all_of(conversation, (*TURN_PARTS, *_INBOX_PARTS))
        persons = {str(user), *await self._people(str(conversation))}
        await self._remove_letters(user, conversation)
        await self._ask(
            self._redis.unlink(*parts, *(self._keys.turns_of(conversation, person) for person in persons))
        )
        await self._ask(
            self._redis.zrem(self._keys.named(f"recent:{conversation.platform}"), str(conversation))
        )
        await self._ask(self._redis.zrem(self._keys.named("ages"), str(conversation)))
        return turns

    async def _remove_turns(self, conversation: ConversationKey, user: UserKey) -> int:
        removed, key = 0, self._keys.turns_of(conversation, user)
        while ids := await self._ask(self._redis.zrange(key, 0, _TURNS_AT_ONCE - 1)):
            removed += await self._histories.remove(conversation, str(user), ids)
            await asyncio.sleep(_PAUSE_S)
        return removed

    async def _remove_messages(self, conversation: ConversationKey, user: UserKey) -> None:
        """Of a conversation of several people, what this one said and was not answered to the end."""
        inbox = self._keys.of(conversation, "inbox")
        async for field, value in self._each(self._redis.hscan_iter(inbox, count=200)):
            kind, _, update_id = field.partition(" ")
            if kind in ("message", "dead") and user_of(value) == str(user):
                await self._remove_message(conversation, update_id)
        await self._remove_letters(user, conversation)

    async def _remove_letters(self, user: UserKey, conversation: ConversationKey | None = None) -> None:
        """Theirs in this conversation, or in all: where they have only written is not known for ever, and what was
        set aside is kept until somebody looks at it."""
        letters = self._keys.named("letters")
        match = "*" if conversation is None else f"{conversation} *"
        async for name, _ in self._each(self._redis.zscan_iter(letters, match=match, count=1000)):
            where, _, update_id = name.partition(" ")
            dead = await self._ask(self._redis.hget(self._keys.of(where, "inbox"), f"dead {update_id}"))
            if (dead is None and conversation is not None) or (dead and user_of(dead) == str(user)):
                await self._remove_message(where, update_id)
                await self._ask(self._redis.zrem(letters, name))

    async def _remove_message(self, conversation: ConversationKey | str, update_id: str) -> None:
        kinds = ("message", "dead", "answer", "turn", "marks")
        write = self._redis.pipeline(transaction=False)
        write.hdel(self._keys.of(conversation, "inbox"), *(f"{kind} {update_id}" for kind in kinds))
        write.zrem(self._keys.of(conversation, "queue"), update_id)
        await self._ask(write.execute())

    async def _remove_settings(self, user: UserKey) -> None:
        chats = await self._ask(self._redis.smembers(self._keys.owner(user, "chats")))
        for owner in (str(user), *chats):
            write = self._redis.pipeline(transaction=False)
            write.delete(self._keys.owner(owner, "settings"))
            write.delete(self._keys.asked(owner))
            write.zrem(self._keys.named("everyone"), owner)
            write.zrem(self._keys.named("persons"), owner)
            write.srem(self._keys.named("having:pairing"), owner)
            await self._ask(write.execute())
        await self._ask(self._redis.delete(self._keys.owner(user, "chats")))
