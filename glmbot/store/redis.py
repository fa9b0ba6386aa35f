"""The production store: Redis 6.2 or newer, alone, behind Sentinel or as a cluster.

Keys, all under one prefix. Those of a conversation share the hash tag {platform:chat:user:thread} and change
together only inside one Lua script; the two kinds of index are written before what they point to, so a crash
between leaves at worst a pointer to nothing.

    PREFIX:{conversation}:inbox   hash: messages not yet shown to the end, their answers and marks; dead letters
    PREFIX:{conversation}:claim   the process that answers it (see redis_claims.py)
    PREFIX:{conversation}:seen    sorted set: update ids by time
    PREFIX:{conversation}:tree    hash: turn id -> "parent user time\\n{question, answer, ref}"
    PREFIX:{conversation}:anchors hash: a platform's message id -> "turn place"; the question's place is 0
    PREFIX:{conversation}:meta    hash: epoch, last_id, head
    PREFIX:{user}:conversations   set        PREFIX:{user or chat}:settings  hash
    PREFIX:open:platform          set of conversations that have had a message
    PREFIX:owners, PREFIX:platforms  sets of who has settings, of platforms
    PREFIX:dead                   set of "conversation update" of dead letters
    PREFIX:{asked}:owner          sorted set of the last hour's update ids by time, of a person, a chat, or all
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar, cast

from glmbot.errors import ClaimLost, StoreError
from glmbot.messages import ChatKey, ConversationKey, ConversationSummary, Message, Unfinished, UserKey
from glmbot.store.base import (
    HOUR_S,
    Backlog,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredConversation,
    Turn,
    message_from_json,
    message_to_json,
    moved_conversation,
    owner_from,
)
from glmbot.store.ownership import is_gone, owner_name
from glmbot.store.redis_claims import RedisClaims
from glmbot.store.redis_connection import RedisConnection

__all__ = ["RedisStore"]

_T = TypeVar("_T")

_NEWS_TAKEN_OVER_S = 60.0


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
        self._turns_kept_s = turns_kept_s
        self._connection = RedisConnection(url, timeout_s)
        self._redis = self._connection.client
        self._name = self._connection.name
        self._claims = RedisClaims(self._connection, prefix, self.owner)

    @property
    def journaled(self) -> int:
        return 0

    async def open(self) -> None:
        await self._ask(self._redis.ping())

    async def close(self) -> None:
        await self._connection.close()

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

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        conversation = str(message.conversation)
        index = self._redis.pipeline(transaction=False)
        index.sadd(self._key("open", message.user.platform), conversation)
        index.sadd(f"{self._prefix}:platforms", message.user.platform)
        index.sadd(self._owner_key(message.user, "conversations"), conversation)
        await self._ask(index.execute())
        await self._claims.open(message.conversation)
        accepted = int(
            await self._script(
                "accept",
                message.conversation,
                ("inbox", "seen", "tree", "anchors"),
                message.update_id,
                json.dumps(message_to_json(message)),
                repr(at),
                repr(at - self._update_ids_kept_s),
                repr(at - self._turns_kept_s) if self._turns_kept_s else "-1",
            )
        )
        if announce and accepted:
            # Also for one that came before: whoever accepted it may have died right here.
            await self._claims.announce(message.conversation)
        return accepted == 1

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        pairs = [part for pair in marks.items() for part in pair]
        await self._change("mark", message, (), *pairs)

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        await self._change("delivered", message, ("tree", "anchors"), *shown)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        found: list[tuple[tuple[float, int], Unfinished]] = []
        for name in await self._ask(self._redis.smembers(self._key("open", platform))):
            conversation = ConversationKey.parse(name)
            inbox: dict[str, str] = await self._ask(self._redis.hgetall(self._key(conversation, "inbox")))
            found += _open_messages(inbox)
        return [entry for _, entry in sorted(found, key=lambda item: item[0])]

    async def set_aside(self, message: Message, reason: str, at: float) -> None:
        index = self._redis.sadd(f"{self._prefix}:dead", f"{message.conversation} {message.update_id}")
        await self._ask(index)
        await self._change("set_aside", message, (), f"{at!r} {' '.join(reason.split())}")

    async def dead_letters(self) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        for entry in await self._ask(self._redis.smembers(f"{self._prefix}:dead")):
            conversation, _, update_id = entry.partition(" ")
            key = self._key(ConversationKey.parse(conversation), "inbox")
            dead: str | None = await self._ask(self._redis.hget(key, f"dead {update_id}"))
            if dead is None:
                await self._ask(self._redis.srem(f"{self._prefix}:dead", entry))
                continue
            head, _, body = dead.split("\n", 2)
            at, _, reason = head.partition(" ")
            found.append(DeadLetter(message_from_json(json.loads(body)), reason, float(at)))
        return sorted(found, key=lambda letter: letter.at)

    async def replay(self, message: Message) -> bool:
        await self._claims.open(message.conversation)
        if not await self._script("replay", message.conversation, ("inbox",), message.update_id):
            return False
        await self._claims.announce(message.conversation)
        return True

    async def drop(self, message: Message) -> bool:
        key = self._key(message.conversation, "inbox")
        if not await self._ask(self._redis.hexists(key, f"dead {message.update_id}")):
            return False
        await self._change("delivered", message, ("tree", "anchors"))
        return True

    async def backlog(self) -> Backlog:
        platforms = await self._ask(self._redis.smembers(f"{self._prefix}:platforms"))
        waiting = [await self._claims.pending(platform) for platform in platforms]
        return Backlog(sum(waiting), int(await self._ask(self._redis.scard(f"{self._prefix}:dead"))))

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        return await self._claims.waiting(platform, wait_s)

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        return await self._claims.open_conversations(platform, _NEWS_TAKEN_OVER_S)

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        parts = ("inbox", "claim")
        lasts = str(int(lasts_s * 1000))
        owner, *fields = await self._script("claim", conversation, parts, self.owner, lasts, "")
        if owner != self.owner and is_gone(owner):
            owner, *fields = await self._script("claim", conversation, parts, self.owner, lasts, owner)
        if owner != self.owner:
            return Claim(owner)
        found = _open_messages(dict(zip(fields[::2], fields[1::2], strict=True)))
        if not found:
            await self._claims.settled(conversation, nothing_open=True)
        # By the inbox's own count: the clocks of several machines differ.
        return Claim(owner, [entry for _, entry in sorted(found, key=lambda item: item[0][1])])

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

    async def answer(self, message: Message) -> StoredAnswer | None:
        stored: str | None = await self._ask(
            self._redis.hget(self._key(message.conversation, "inbox"), f"answer {message.update_id}")
        )
        return None if stored is None else StoredAnswer(**json.loads(stored))

    async def epoch(self, conversation: ConversationKey) -> int:
        return int(await self._ask(self._redis.hget(self._key(conversation, "meta"), "epoch")) or 0)

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        end = "" if upto is None else str(upto)
        found: list[str] = await self._script("last_turns", conversation, ("tree", "meta"), str(limit), end)
        return [_turn(turn_id, entry) for turn_id, entry in zip(found[::2], found[1::2], strict=True)][::-1]

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        anchor: str | None = await self._ask(self._redis.hget(self._key(conversation, "anchors"), ref))
        if anchor is None:
            return None
        turn_id = anchor.partition(" ")[0]
        entry: str | None = await self._ask(self._redis.hget(self._key(conversation, "tree"), turn_id))
        return None if entry is None else _turn(turn_id, entry)

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        anchors: dict[str, str] = await self._ask(self._redis.hgetall(self._key(conversation, "anchors")))
        places = [
            (int(place), ref)
            for ref, anchor in anchors.items()
            for of, _, place in (anchor.partition(" "),)
            if int(of) == turn and place != "0"
        ]
        return [ref for _, ref in sorted(places)]

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
        turn: tuple[str, ...] = ()
        if question is not None:
            text = answer.text if turn_answer is None else turn_answer
            turn = (str(message.user), repr(at), _body(question, text, ref), ref)
        appended = await self._change(
            "finish",
            message,
            ("tree", "meta", "anchors"),
            json.dumps(asdict(answer), ensure_ascii=False),
            str(epoch),
            "" if parent is None else str(parent),
            *turn,
        )
        if appended and self._turns_kept_s:
            keys = [self._key(message.conversation, part) for part in ("tree", "meta", "anchors")]
            for key in keys:
                await self._ask(self._redis.expire(key, int(self._turns_kept_s) + 1))
        return appended == 1

    async def reset(self, conversation: ConversationKey) -> int:
        return int(await self._script("reset", conversation, ("tree", "meta", "anchors")))

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._script("remove", conversation, ("tree", "meta", "anchors"), "", str(turn))

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return [exported.conversation for exported in await self.export(user)]

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        found: list[ExportedConversation] = []
        for conversation in await self._conversations(user):
            turns = [turn for turn in await self._turns(conversation) if turn.user == user]
            if turns:
                found.append(ExportedConversation(conversation, turns))
        return found

    async def forget(self, user: UserKey) -> int:
        removed = 0
        conversations = await self._conversations(user)
        for conversation in conversations:
            alone = conversation.user == user.id or (conversation.user == 0 and conversation.chat == user.id)
            removed += int(
                await self._script("remove", conversation, ("tree", "meta", "anchors"), str(user), "")
            )
            if alone:
                parts = ("inbox", "seen", "tree", "meta", "anchors", "claim")
                await self._ask(self._redis.delete(*(self._key(conversation, part) for part in parts)))
                await self._ask(self._redis.srem(self._key("open", user.platform), str(conversation)))
                await self._claims.erase(conversation)
            else:
                await self._script("forget", conversation, ("inbox",), str(user))
        await self._ask(self._redis.delete(self._asked_key(str(user))))
        # Listing them takes the mention of those that are gone out of their index.
        await self.dead_letters()
        await self._ask(self._redis.delete(self._owner_key(user, "conversations")))
        chats = {ChatKey(user.platform, each.chat, user.id) for each in conversations}
        for owner in (user, *chats):
            await self._ask(self._redis.delete(self._owner_key(owner, "settings")))
            await self._ask(self._redis.srem(f"{self._prefix}:owners", str(owner)))
        return removed

    async def check(self) -> None:
        await self._ask(self._redis.set(f"{self._prefix}:health", self.owner, px=60_000))

    async def tidy(self, now: float) -> bool:
        return False

    async def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        for exported in await self.export(user):
            yield exported

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        found = [
            ConversationSummary(entry.conversation, turns[0].question, len(turns), turns[-1].at)
            for entry in await self.export(user)
            for turns in (sorted(entry.turns, key=lambda turn: turn.at),)
        ]
        found.sort(key=lambda each: (each.at, str(each.conversation)), reverse=True)
        return [each for each in found if before is None or (each.at, str(each.conversation)) < before][
            :limit
        ]

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        moved_conversation(ConversationKey("", 0), old, new)
        if old == new:
            return
        owners = {old: new}
        for conversation in await self._all_conversations():
            target = moved_conversation(conversation, old, new)
            if target != conversation:
                if isinstance(old, UserKey):
                    chat = ChatKey(old.platform, conversation.chat, old.id)
                    owners[chat] = ChatKey(old.platform, conversation.chat, new.id)
                await self._move_conversation(conversation, target, old, new)
        for before, after in owners.items():
            for name, value in (await self.settings(before)).items():
                if name not in await self.settings(after):
                    await self.set_setting(after, name, value)
                await self.set_setting(before, name, "")

    async def _move_conversation(
        self, old: ConversationKey, new: ConversationKey, before: UserKey | ChatKey, after: UserKey | ChatKey
    ) -> None:
        turns = await self._turns(old)
        has = {turn.id for turn in await self._turns(new)}
        shift = max(has, default=0)
        meta: dict[str, str] = await self._ask(self._redis.hgetall(self._key(old, "meta")))
        anchors: dict[str, str] = await self._ask(self._redis.hgetall(self._key(old, "anchors")))
        head = int(meta.get("head", "0"))
        write = self._redis.pipeline(transaction=False)
        for turn in turns:
            user = after if isinstance(after, UserKey) and turn.user == before else turn.user
            parent = turn.parent and turn.parent + shift
            body = _body(turn.question, turn.answer, turn.ref)
            write.hset(self._key(new, "tree"), str(turn.id + shift), f"{parent} {user} {turn.at!r}\n{body}")
            write.sadd(self._owner_key(user, "conversations"), str(new))
        for ref, anchor in anchors.items():
            turn_id, _, place = anchor.partition(" ")
            write.hset(self._key(new, "anchors"), ref, f"{int(turn_id) + shift} {place}")
        for turn in await self._turns(new):
            if turn.parent == 0 and head and turn.id in has:
                body = _body(turn.question, turn.answer, turn.ref)
                entry = f"{head + shift} {turn.user} {turn.at!r}\n{body}"
                write.hset(self._key(new, "tree"), str(turn.id), entry)
        if turns:
            write.hset(self._key(new, "meta"), "last_id", str(shift + max(turn.id for turn in turns)))
            if not has:
                write.hset(self._key(new, "meta"), "head", str(head + shift))
        write.sadd(self._key("open", new.platform), str(new))
        write.delete(*(self._key(old, part) for part in ("tree", "anchors", "meta")))
        await self._ask(write.execute())
        if await self._ask(self._redis.exists(self._key(old, "claim"))):
            return
        inbox: dict[str, str] = await self._ask(self._redis.hgetall(self._key(old, "inbox")))
        for field, value in inbox.items():
            kind, _, update_id = field.partition(" ")
            if kind == "turn":
                await self._ask(self._redis.hset(self._key(new, "inbox"), field, str(int(value) + shift)))
            elif kind in ("message", "dead"):
                top, _, body = value.rpartition("\n")
                message = message_from_json(json.loads(body))
                user = after if isinstance(after, UserKey) and message.user == before else message.user
                moved = json.dumps(message_to_json(replace(message, conversation=new, user=user)))
                await self._ask(self._redis.hset(self._key(new, "inbox"), field, f"{top}\n{moved}"))
                if kind == "dead":
                    await self._ask(self._redis.sadd(f"{self._prefix}:dead", f"{new} {update_id}"))
            elif kind != "arrivals":
                await self._ask(self._redis.hset(self._key(new, "inbox"), field, value))
        if any(field.startswith("message ") for field in inbox):
            await self._claims.open(new)
            await self._claims.announce(new)
        await self._ask(self._redis.delete(self._key(old, "inbox")))

    async def people(self, limit: int, after: str = "") -> Mapping[str, Mapping[str, str]]:
        found = await self.all_settings()
        names = [name for name in found if ":chat:" not in name and name > after]
        return {name: found[name] for name in names[:limit]}

    async def having(self, name: str, limit: int) -> Mapping[str, Mapping[str, str]]:
        found = await self.all_settings()
        return {owner: found[owner] for owner in [each for each in found if name in found[each]][:limit]}

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        return [
            conversation
            for conversation in await self._all_conversations()
            if any(turn.at >= since for turn in await self._turns(conversation))
        ]

    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        keys = [self._asked_key(owner) for owner in limits]
        given = [question, repr(at), repr(HOUR_S), *(str(limit) for limit in limits.values())]
        return float(await self._connection.run("count", keys, *given))

    async def counted(self, owner: str, at: float) -> int:
        return int(await self._ask(self._redis.zcount(self._asked_key(owner), f"({at - HOUR_S!r}", "+inf")))

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        return cast(dict[str, str], await self._ask(self._redis.hgetall(self._owner_key(owner, "settings"))))

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        key = self._owner_key(owner, "settings")
        if value:
            await self._ask(self._redis.sadd(f"{self._prefix}:owners", str(owner)))
            await self._ask(self._redis.hset(key, name, value))
        else:
            await self._ask(self._redis.hdel(key, name))

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        for name in sorted(await self._ask(self._redis.smembers(f"{self._prefix}:owners"))):
            if settings := await self.settings(owner_from(name)):
                found[name] = settings
        return found

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        for conversation in await self._all_conversations():
            if turns := await self._turns(conversation):
                head = await self._ask(self._redis.hget(self._key(conversation, "meta"), "head"))
                yield StoredConversation(conversation, turns, int(head or 0))

    async def put(self, stored: StoredConversation) -> bool:
        conversation = stored.conversation
        tree, anchors = self._key(conversation, "tree"), self._key(conversation, "anchors")
        if not stored.turns or await self._ask(self._redis.exists(tree)):
            return False
        index = self._redis.pipeline(transaction=False)
        index.sadd(self._key("open", conversation.platform), str(conversation))
        index.sadd(f"{self._prefix}:platforms", conversation.platform)
        for user in {turn.user for turn in stored.turns}:
            index.sadd(self._owner_key(user, "conversations"), str(conversation))
        await self._ask(index.execute())
        write = self._redis.pipeline(transaction=True)
        for turn in stored.turns:
            body = _body(turn.question, turn.answer, turn.ref)
            write.hset(tree, str(turn.id), f"{turn.parent} {turn.user} {turn.at!r}\n{body}")
            if turn.ref:
                write.hset(anchors, turn.ref, f"{turn.id} 0")
        last_id = max(turn.id for turn in stored.turns)
        meta = self._key(conversation, "meta")
        write.hincrby(meta, "epoch", 1)
        write.hset(meta, mapping={"last_id": last_id, "head": stored.head})
        await self._ask(write.execute())
        return True

    async def _turns(self, conversation: ConversationKey) -> list[Turn]:
        """All of all branches, by id."""
        stored: dict[str, str] = await self._ask(self._redis.hgetall(self._key(conversation, "tree")))
        return sorted((_turn(turn_id, entry) for turn_id, entry in stored.items()), key=lambda turn: turn.id)

    async def _all_conversations(self) -> list[ConversationKey]:
        names: set[str] = set()
        for platform in await self._ask(self._redis.smembers(f"{self._prefix}:platforms")):
            names |= await self._ask(self._redis.smembers(self._key("open", platform)))
        return [ConversationKey.parse(name) for name in sorted(names)]

    async def _conversations(self, user: UserKey) -> list[ConversationKey]:
        """Where this person has written, in a fixed order."""
        names = await self._ask(self._redis.smembers(self._owner_key(user, "conversations")))
        return [ConversationKey.parse(name) for name in sorted(names)]

    def _key(self, of: ConversationKey | str, part: str) -> str:
        tag = of if isinstance(of, str) else f"{{{of}}}"
        return f"{self._prefix}:{tag}:{part}"

    def _asked_key(self, owner: str) -> str:
        # One hash tag for all, since one script looks at several.
        return f"{self._prefix}:{{asked}}:{owner}"

    def _owner_key(self, owner: UserKey | ChatKey, part: str) -> str:
        return f"{self._prefix}:{{{owner}}}:{part}"

    async def _change(self, script: str, message: Message, parts: Sequence[str], *arguments: str) -> int:
        """Run a script that only the process that has the conversation may. Raises ClaimLost."""
        parts = ("inbox", "claim", *parts)
        done = int(
            await self._script(script, message.conversation, parts, self.owner, message.update_id, *arguments)
        )
        if done < 0:
            raise ClaimLost(message.conversation)
        return done

    async def _script(
        self, name: str, conversation: ConversationKey, parts: Sequence[str], *arguments: str
    ) -> Any:
        return await self._connection.run(name, [self._key(conversation, part) for part in parts], *arguments)

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        return await self._connection.ask(answer)


def _open_messages(inbox: Mapping[str, str]) -> list[tuple[tuple[float, int], Unfinished]]:
    """What is to be answered of an inbox's fields, each with its place in the order of arrival."""
    found: list[tuple[tuple[float, int], Unfinished]] = []
    for field, value in inbox.items():
        kind, _, update_id = field.partition(" ")
        if kind != "message":
            continue
        head, _, body = value.partition("\n")
        arrival, _, at = head.partition(" ")
        marks = {
            key.rpartition(" ")[2]: mark
            for key, mark in inbox.items()
            if key.startswith(f"mark {update_id} ")
        }
        found.append(((float(at), int(arrival)), Unfinished(message_from_json(json.loads(body)), marks)))
    return found


def _body(question: str, answer: str, ref: str) -> str:
    return json.dumps({"question": question, "answer": answer, "ref": ref}, ensure_ascii=False)


def _turn(turn_id: str, entry: str) -> Turn:
    head, _, body = entry.partition("\n")
    parent, user, at = head.split(" ")
    fields = json.loads(body)
    return Turn(
        int(turn_id),
        UserKey.parse(user),
        fields["question"],
        fields["answer"],
        float(at),
        int(parent),
        fields["ref"],
    )
