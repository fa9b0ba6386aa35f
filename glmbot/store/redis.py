"""The production store: Redis 6.2 or newer, alone, behind Sentinel or as a cluster.

What stands where: see redis_keys.py.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar, cast

from glmbot.errors import ClaimLost, StoreError, StoreUnavailable
from glmbot.keys import NOBODY, ChatKey, ConversationKey, UserKey, in_chat
from glmbot.messages import ConversationSummary, Message, Unfinished
from glmbot.store.base import CLAIMED_AT_ONCE, HOUR_S, INDEXED
from glmbot.store.message_json import answer_from_json, message_to_json
from glmbot.store.ownership import is_gone, owner_name
from glmbot.store.records import (
    Backlog,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
    whole_conversations,
)
from glmbot.store.redis_claims import RedisClaims
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import RedisHistories, conversation_of, moved_of, number_of, turn_body
from glmbot.store.redis_inbox import Entry, dead_letter, entries
from glmbot.store.redis_keys import RedisKeys
from glmbot.store.redis_moves import RedisMoves
from glmbot.store.redis_removal import RedisRemoval
from glmbot.store.redis_upgrade import bring_up_to_date
from glmbot.store.ways import check_move

__all__ = ["RedisStore"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_NEWS_TAKEN_OVER_S = 60.0
_OWNERS_AT_ONCE = 500
_LETTERS_AT_ONCE = 500

# How far back `asked_in` looks: each page is one short request, and all of them a fraction of a second.
_RECENT_AT_ONCE = 1000
_RECENT_PAGES = 50


class RedisStore:
    """See `glmbot.store.base.Store`."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "glmbot",
        update_ids_kept_s: float = 7 * 86400,
        turns_kept_s: float = 0,
        timeout_s: float = 5.0,
    ) -> None:
        """url: see `glmbot.store.redis_connection`. turns_kept_s 0 keeps turns for ever. Raises ValueError."""
        self.owner = owner_name()
        self._prefix = prefix
        self._update_ids_kept_s = update_ids_kept_s
        # How long what is left of a conversation without turns is kept.
        self._left_s = str(int(update_ids_kept_s) + 1)
        self._turns_kept_s = turns_kept_s
        self._connection = RedisConnection(url, timeout_s)
        self._redis = self._connection.client
        self._name = self._connection.name
        self._keys = RedisKeys(prefix)
        self._claims = RedisClaims(self._connection, prefix, self.owner)
        self._histories = RedisHistories(self._connection, self._keys)
        self._moves = RedisMoves(self._connection, self._keys, self._histories)
        self._removal = RedisRemoval(self._connection, self._keys, self._histories, self._claims, self._moves)

    @property
    def journaled(self) -> int:
        return 0

    async def open(self) -> None:
        await self._ask(self._redis.ping())
        await bring_up_to_date(self._connection, self._keys, self.owner)

    async def close(self) -> None:
        await self._connection.close()

    async def check(self) -> None:
        await self._ask(self._redis.set(self._keys.named("health"), self.owner, px=60_000))

    async def warnings(self) -> Sequence[str]:
        try:
            config = await self._ask(
                self._redis.config_get("appendonly", "save", "maxmemory-policy", "min-replicas-to-write")
            )
        except StoreError:
            return [f"{self._name}: CONFIG is not allowed, so persistence and eviction could not be checked"]
        found: list[str] = []
        if config.get("appendonly") != "yes":
            found.append(
                f"{self._name}: appendonly is off; a crash of Redis loses the last messages"
                if config.get("save")
                else f"{self._name}: nothing is persisted; a restart of Redis loses every history"
            )
        policy = config.get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            found.append(f"{self._name}: maxmemory-policy is {policy}; Redis may throw histories away")
        if self._connection.fails_over and config.get("min-replicas-to-write") == "0":
            found.append(
                f"{self._name}: min-replicas-to-write is 0; what an old master takes when it comes back is lost"
            )
        return found

    # ---- inbox ------------------------------------------------------------------------------------------------

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        await self._ask(self._redis.sadd(self._keys.named("platforms"), message.user.platform))
        await self._place(message, at)
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
            await self._place(message, at)
        if announce and accepted:
            # Also for one that came before: whoever accepted it may have died right here.
            await self._claims.announce(message.conversation)
        return accepted == 1

    async def _place(self, message: Message, at: float) -> None:
        places = [self._keys.owner(message.user, "places")]
        await self._connection.run("place", places, str(message.conversation), repr(at), self._left_s)

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
        found: list[Entry] = []
        for conversation in await self._claims.pending_conversations(platform):
            found += await self._open_in(conversation, -1)
        return [
            entry.unfinished for entry in sorted(found, key=lambda entry: entry.order) if entry.unfinished
        ]

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        found = await self._open_in(conversation, CLAIMED_AT_ONCE - 1)
        return [entry.unfinished for entry in found if entry.unfinished]

    async def _open_in(self, conversation: ConversationKey, last: int) -> list[Entry]:
        """In the order of arrival, up to the one of that index; -1: all."""
        ids = await self._ask(self._redis.zrange(self._keys.of(conversation, "queue"), 0, last))
        inbox = self._keys.of(conversation, "inbox")
        fields: list[str] = []
        for update_id in ids:
            values = await self._ask(self._redis.hmget(inbox, [f"message {update_id}", f"marks {update_id}"]))
            # One without a message was delivered meanwhile.
            fields += [update_id, values[0], values[1] or "{}"] if values[0] is not None else []
        return await self._whole(conversation, entries(conversation, fields))

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        said = json.dumps(message_to_json(message))
        await self._change("join", message, ("queue",), said, *(other.update_id for other in others))

    async def _whole(self, conversation: ConversationKey, found: Sequence[Entry]) -> list[Entry]:
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
                found.append(dead_letter(conversation, update_id, dead))
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
            return answer_from_json(stored)
        except ValueError as error:
            # It is answered once more.
            _log.error("an answer in the store can't be read: %s", error)
            await self._ask(self._redis.hdel(inbox, field))
            return None

    # ---- claims -----------------------------------------------------------------------------------------------

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        return await self._claims.waiting(platform, wait_s)

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        return await self._claims.open_conversations(platform, _NEWS_TAKEN_OVER_S)

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
        found = await self._whole(conversation, entries(conversation, fields))
        if fields and not found:
            return await self.claim(conversation, lasts_s)
        if not found:
            await self._claims.settled(conversation, nothing_open=True)
        return Claim(owner, [entry.unfinished for entry in found if entry.unfinished is not None])

    async def leave_to(self, conversation: ConversationKey, owner: str) -> None:
        await self._claims.signal(f"look {owner} {conversation}")
        await self._claims.settled(conversation, nothing_open=False)

    async def release(self, conversation: ConversationKey) -> None:
        await self._script("release", conversation, ("claim",), self.owner)
        await self._claims.settled(conversation, nothing_open=False)
        await self._claims.announce(conversation)

    async def lease(self, name: str, lasts_s: float) -> str:
        return await self._claims.lease(name, lasts_s)

    async def end_lease(self, name: str) -> None:
        await self._claims.end_lease(name)

    async def keep(self) -> None:
        await self._claims.keep()

    async def signal(self, words: str) -> None:
        await self._claims.signal(words)

    async def signals(self, wait_s: float) -> Sequence[str]:
        return await self._claims.signals(wait_s)

    # ---- quotas -----------------------------------------------------------------------------------------------

    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        keys = [self._keys.asked(owner) for owner in limits]
        given = [question, repr(at), repr(HOUR_S), *(str(min(limit, 2**31)) for limit in limits.values())]
        return float(await self._connection.run("count", keys, *given))

    async def counted(self, owner: str, at: float) -> int:
        window = (f"({at - HOUR_S!r}", repr(at + HOUR_S))
        return int(await self._ask(self._redis.zcount(self._keys.asked(owner), *window)))

    # ---- histories --------------------------------------------------------------------------------------------

    async def epoch(self, conversation: ConversationKey) -> int:
        return number_of(await self._ask(self._redis.hget(self._keys.of(conversation, "meta"), "epoch")))

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        return await self._histories.last_turns(conversation, limit, upto)

    async def followers(
        self, conversation: ConversationKey, turns: Sequence[int]
    ) -> Mapping[int, Sequence[int]]:
        return await self._histories.followers(conversation, turns)

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        return await self._histories.lead(conversation, head, refs)

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        return await self._histories.turn_of(conversation, ref)

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        recent, begin = self._keys.named(f"recent:{chat.platform}"), in_chat(chat.platform, chat.id)
        for page in range(_RECENT_PAGES):
            # A conversation's last turn is no older than any question in it.
            names: list[str] = await self._ask(
                self._redis.zrevrangebyscore(
                    recent, "+inf", since, start=page * _RECENT_AT_ONCE, num=_RECENT_AT_ONCE
                )
            )
            of_chat = [name for name in names if name.startswith(begin)]
            anchors = self._redis.pipeline(transaction=False)
            for name in of_chat:
                anchors.hget(self._keys.of(name, "anchors"), ref)
            found: list[str | None] = await self._ask(anchors.execute()) if of_chat else []
            for name, anchor in zip(of_chat, found, strict=True):
                if anchor is not None and anchor.endswith(" 0"):
                    return ConversationKey.parse(name)
            if len(names) < _RECENT_AT_ONCE:
                break
        return None

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        return await self._histories.shown(conversation, turn)

    async def pieces(self, conversation: ConversationKey, turn: int) -> Mapping[str, int]:
        return await self._histories.pieces(conversation, turn)

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        parent: int | None = None,
        ref: str = "",
        turn_answer: str | None = None,
    ) -> bool:
        conversation, turn = message.conversation, cast(tuple[str, ...], ())
        if question is not None:
            text = answer.text if turn_answer is None else turn_answer
            pieces = message.act.pieces if ref == message.ref else {}
            places = [part for piece, tail in pieces.items() for part in (piece, str(-1 - tail))]
            turn = (str(message.user), repr(at), turn_body(question, text, ref, answer.thought), ref, *places)
            await self._histories.note(conversation, message.user, at)
        keys = self._keys.all_of(
            conversation, ("inbox", "claim", "tree", "meta", "anchors", "refs", "children", "people")
        )
        appended = await self._connection.run(
            "finish",
            [*keys, self._keys.turns_of(conversation, message.user)],
            self.owner,
            message.update_id,
            json.dumps(asdict(answer), ensure_ascii=False),
            str(epoch),
            "" if parent is None else str(parent),
            # Should no process be there to delete them.
            str(int(self._turns_kept_s) + 86400 if self._turns_kept_s else 0),
            *turn,
        )
        if appended < 0:
            raise ClaimLost(conversation)
        if not appended and turn:
            await self._histories.unnote(conversation, message.user)
        return appended == 1

    async def reset(self, conversation: ConversationKey) -> int:
        return await self._removal.reset(conversation)

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._removal.remove_turn(conversation, turn)

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return await self._histories.with_turns(user)

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        return await self._histories.summaries(user, limit, before)

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        return [page async for page in whole_conversations(self.export_pages(user))]

    def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        return self._histories.pages(user)

    async def forget(self, user: UserKey) -> int:
        for old, new in await self._removal.halfway(user):
            await self._move(old, new)
        return await self._removal.forget(user)

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        check_move(old, new)
        if old == new:
            return
        await self._moves.begin(old, new, at)
        await self._move(old, new)

    async def _move(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        for conversation in await self._moves.move(old, new):
            await self._claims.open(conversation)
            await self._claims.announce(conversation)

    async def tidy(self, now: float) -> bool:
        user = await self._removal.pending()
        if user is not None:
            await self._unless_damaged(self.forget(user))
        for old, new in await self._moves.pending(now):
            await self._unless_damaged(self._move_late(old, new, now))
        return bool(self._turns_kept_s) and await self._removal.expire(now - self._turns_kept_s)

    async def _move_late(self, old: UserKey | ChatKey, new: UserKey | ChatKey, now: float) -> None:
        await self._move(old, new)
        await self._moves.followed(old, now)

    async def _unless_damaged(self, work: Awaitable[object]) -> None:
        """What can't be done for one keeps nothing else from being tidied."""
        try:
            await work
        except StoreUnavailable:
            raise
        except StoreError as error:
            _log.error("something in the store can't be tidied: %s", error)

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        return await self._histories.recent(since)

    # ---- settings ---------------------------------------------------------------------------------------------

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        key = self._keys.owner(owner, "settings")
        return cast(dict[str, str], await self._ask(self._redis.hgetall(key)))

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        key = self._keys.owner(owner, "settings")
        if not value:
            await self._ask(self._redis.hdel(key, name))
            if name in INDEXED:
                await self._ask(self._redis.srem(self._keys.named(f"having:{name}"), str(owner)))
            return
        index = self._redis.pipeline(transaction=False)
        index.zadd(self._keys.named("everyone"), {str(owner): 0})
        if isinstance(owner, UserKey):
            index.zadd(self._keys.named("persons"), {str(owner): 0})
        elif owner.user:
            person = UserKey(owner.platform, owner.user)
            index.sadd(self._keys.owner(person, "chats"), str(owner))
        if name in INDEXED:
            index.sadd(self._keys.named(f"having:{name}"), str(owner))
        await self._ask(index.execute())
        await self._ask(self._redis.hset(key, name, value))

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        after = ""
        while names := await self._names("everyone", after, _OWNERS_AT_ONCE):
            found |= await self._settings_of(names)
            after = names[-1]
        return found

    async def people(self, limit: int, after: str = "") -> Mapping[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        while len(found) < limit and (names := await self._names("persons", after, limit - len(found))):
            page = await self._settings_of(names)
            # Whose last setting was removed since.
            if gone := [name for name in names if name not in page]:
                await self._ask(self._redis.zrem(self._keys.named("persons"), *gone))
            found |= page
            after = names[-1]
        return found

    async def having(self, name: str, limit: int) -> Mapping[str, Mapping[str, str]]:
        names = await self._ask(self._redis.srandmember(self._keys.named(f"having:{name}"), limit))
        found = await self._settings_of(names or [])
        return {owner: settings for owner, settings in sorted(found.items()) if name in settings}

    async def _names(self, index: str, after: str, limit: int) -> list[str]:
        """A page of an index, and none at its end. What is no text is read as something that stands before it, so
        that it would come for ever."""
        start = f"({after}" if after else "-"
        key = self._keys.named(index)
        names = list(await self._ask(self._redis.zrangebylex(key, start, "+", start=0, num=limit)))
        return [] if names[-1:] == [after] else names

    async def _settings_of(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        ask = self._redis.pipeline(transaction=False)
        for name in names:
            ask.hgetall(self._keys.owner(name, "settings"))
        found = await self._ask(ask.execute()) if names else []
        return {name: settings for name, settings in zip(names, found, strict=True) if settings}

    # ---- backup -----------------------------------------------------------------------------------------------

    def everything(self) -> AsyncGenerator[StoredConversation, None]:
        return self._histories.everything()

    async def put(self, stored: StoredConversation) -> bool:
        return await self._histories.put(stored)

    async def _change(self, script: str, message: Message, parts: Sequence[str], *arguments: str) -> Any:
        """Run a script that only the process that has the conversation may. Raises ClaimLost."""
        parts = ("inbox", "claim", *parts)
        done = await self._script(
            script, message.conversation, parts, self.owner, message.update_id, *arguments
        )
        if done == -1:
            raise ClaimLost(message.conversation)
        return done

    async def _script(
        self, name: str, conversation: ConversationKey, parts: Sequence[str], *arguments: str
    ) -> Any:
        return await self._connection.run(name, self._keys.all_of(conversation, parts), *arguments)

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        return await self._connection.ask(answer)


def _is_whole(conversation: ConversationKey, update_id: str, dead: str) -> bool:
    message = dead.partition("\n")[2]
    (entry,) = entries(conversation, [update_id, message, "{}"])
    return entry.unfinished is not None
