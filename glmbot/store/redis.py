"""The production store: Redis 6.2 or newer, alone, behind Sentinel or as a cluster.

Keys, all under one prefix. Those of a conversation share the hash tag {platform:chat:user:thread} and change
together only inside one Lua script; the two kinds of index are written before what they point to, so a crash
between leaves at worst a pointer to nothing.

    PREFIX:{conversation}:inbox   hash: messages not yet shown to the end, their answers and marks
    PREFIX:{conversation}:seen    sorted set: update ids by time
    PREFIX:{conversation}:turns   list: "id user time\\n{question, answer}"
    PREFIX:{conversation}:meta    hash: epoch, last_id
    PREFIX:{user}:conversations   set        PREFIX:{user}:settings  hash
    PREFIX:open:platform          set of conversations that have had a message
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from glmbot.errors import StoreError
from glmbot.messages import ConversationKey, Message, Unfinished, UserKey
from glmbot.store.base import (
    ExportedConversation,
    StoredAnswer,
    Turn,
    message_from_json,
    message_to_json,
)

__all__ = ["RedisStore"]

_T = TypeVar("_T")


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
        """url: redis://, rediss:// (TLS) or unix://. turns_kept_s 0 keeps turns for ever."""
        self._prefix = prefix
        self._update_ids_kept_s = update_ids_kept_s
        self._turns_kept_s = turns_kept_s
        self._redis: Any = Redis.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        where: dict[str, Any] = self._redis.connection_pool.connection_kwargs
        address = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        self._name = f"redis at {address}"
        scripts = files("glmbot.store") / "scripts"
        self._scripts: dict[str, Any] = {
            name: self._redis.register_script((scripts / f"{name}.lua").read_text("utf-8"))
            for name in ("accept", "mark", "delivered", "finish", "reset", "forget")
        }

    async def open(self) -> None:
        await self._ask(self._redis.ping())

    async def close(self) -> None:
        await self._redis.aclose()

    async def warnings(self) -> Sequence[str]:
        try:
            config = await self._ask(self._redis.config_get("appendonly", "save", "maxmemory-policy"))
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
        return found

    async def accept(self, message: Message, at: float) -> bool:
        conversation = str(message.conversation)
        index = self._redis.pipeline(transaction=False)
        index.sadd(self._key("open", message.user.platform), conversation)
        index.sadd(self._user_key(message.user, "conversations"), conversation)
        await self._ask(index.execute())
        accepted = await self._script(
            "accept",
            message.conversation,
            ("inbox", "seen", "turns"),
            message.update_id,
            json.dumps(message_to_json(message)),
            repr(at),
            repr(at - self._update_ids_kept_s),
            repr(at - self._turns_kept_s) if self._turns_kept_s else "-1",
        )
        return bool(accepted)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        pairs = [part for pair in marks.items() for part in pair]
        await self._script("mark", message.conversation, ("inbox",), message.update_id, *pairs)

    async def delivered(self, message: Message) -> None:
        await self._script("delivered", message.conversation, ("inbox",), message.update_id)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        found: list[tuple[float, int, Unfinished]] = []
        for name in await self._ask(self._redis.smembers(self._key("open", platform))):
            conversation = ConversationKey.parse(name)
            inbox: dict[str, str] = await self._ask(self._redis.hgetall(self._key(conversation, "inbox")))
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
                message = message_from_json(json.loads(body))
                found.append((float(at), int(arrival), Unfinished(message, marks)))
        return [entry for _, _, entry in sorted(found, key=lambda item: item[:2])]

    async def answer(self, message: Message) -> StoredAnswer | None:
        stored: str | None = await self._ask(
            self._redis.hget(self._key(message.conversation, "inbox"), f"answer {message.update_id}")
        )
        return None if stored is None else StoredAnswer(**json.loads(stored))

    async def epoch(self, conversation: ConversationKey) -> int:
        return int(await self._ask(self._redis.hget(self._key(conversation, "meta"), "epoch")) or 0)

    async def last_turns(self, conversation: ConversationKey, limit: int) -> Sequence[Turn]:
        if limit < 1:
            return []
        stored = await self._ask(self._redis.lrange(self._key(conversation, "turns"), -limit, -1))
        return [_turn(entry) for entry in stored]

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        replaces: int | None = None,
    ) -> bool:
        turn: tuple[str, ...] = ()
        if question is not None:
            body = json.dumps({"question": question, "answer": answer.text}, ensure_ascii=False)
            turn = (str(message.user), repr(at), body)
        appended = await self._script(
            "finish",
            message.conversation,
            ("inbox", "turns", "meta"),
            message.update_id,
            json.dumps(asdict(answer), ensure_ascii=False),
            str(epoch),
            "" if replaces is None else str(replaces),
            *turn,
        )
        if appended and self._turns_kept_s:
            keys = [self._key(message.conversation, part) for part in ("turns", "meta")]
            for key in keys:
                await self._ask(self._redis.expire(key, int(self._turns_kept_s) + 1))
        return bool(appended)

    async def reset(self, conversation: ConversationKey) -> int:
        return int(await self._script("reset", conversation, ("turns", "meta")))

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return [exported.conversation for exported in await self.export(user)]

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        found: list[ExportedConversation] = []
        for conversation in await self._conversations(user):
            stored = await self._ask(self._redis.lrange(self._key(conversation, "turns"), 0, -1))
            turns = [turn for turn in map(_turn, stored) if turn.user == user]
            if turns:
                found.append(ExportedConversation(conversation, turns))
        return found

    async def forget(self, user: UserKey) -> int:
        removed = 0
        for conversation in await self._conversations(user):
            alone = conversation.user == user.id or (conversation.user == 0 and conversation.chat == user.id)
            removed += int(
                await self._script(
                    "forget",
                    conversation,
                    ("inbox", "seen", "turns", "meta"),
                    str(user),
                    "1" if alone else "0",
                )
            )
            if alone:
                await self._ask(self._redis.srem(self._key("open", user.platform), str(conversation)))
        for part in ("conversations", "settings"):
            await self._ask(self._redis.delete(self._user_key(user, part)))
        return removed

    async def settings(self, user: UserKey) -> Mapping[str, str]:
        return cast(dict[str, str], await self._ask(self._redis.hgetall(self._user_key(user, "settings"))))

    async def set_setting(self, user: UserKey, name: str, value: str) -> None:
        await self._ask(self._redis.hset(self._user_key(user, "settings"), name, value))

    async def _conversations(self, user: UserKey) -> list[ConversationKey]:
        """Where this person has written, in a fixed order."""
        names = await self._ask(self._redis.smembers(self._user_key(user, "conversations")))
        return [ConversationKey.parse(name) for name in sorted(names)]

    def _key(self, of: ConversationKey | str, part: str) -> str:
        tag = of if isinstance(of, str) else f"{{{of}}}"
        return f"{self._prefix}:{tag}:{part}"

    def _user_key(self, user: UserKey, part: str) -> str:
        return f"{self._prefix}:{{{user}}}:{part}"

    async def _script(
        self, name: str, conversation: ConversationKey, parts: Sequence[str], *arguments: str
    ) -> Any:
        keys = [self._key(conversation, part) for part in parts]
        return await self._ask(self._scripts[name](keys=keys, args=arguments))

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise StoreError(f"{self._name}: {error}") from error


def _turn(entry: str) -> Turn:
    head, _, body = entry.partition("\n")
    turn_id, user, at = head.split(" ")
    fields = json.loads(body)
    return Turn(int(turn_id), UserKey.parse(user), fields["question"], fields["answer"], float(at))
