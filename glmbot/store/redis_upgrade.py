"""What the first layout in Redis kept becomes this one, once, when the first process of this version starts.

Each conversation by itself, and each of its steps may be repeated, so a start that is interrupted goes on at the
next one. Processes of an earlier version must have been stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from typing import Any

from glmbot.errors import StoreError
from glmbot.keys import ChatKey, ConversationKey, UserKey, owner_from
from glmbot.store.message_json import kept_json
from glmbot.store.private_chats import owner_now, person_of
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import conversation_of, turns_of
from glmbot.store.redis_keys import RedisKeys

__all__ = ["LAYOUT", "bring_up_to_date"]

_log = logging.getLogger(__name__)

LAYOUT = "2"
_BUSY_MS = 60_000
_PAGE = 500


async def bring_up_to_date(connection: RedisConnection, keys: RedisKeys, owner: str) -> None:
    """Raises StoreError, also when what is there was written by a later version."""
    redis, ask = connection.client, connection.ask
    while True:
        layout = await ask(redis.get(keys.named("layout")))
        if layout == LAYOUT:
            return
        if layout is not None:
            raise StoreError(f"{connection.name}: was written by a later version of glmbot (layout {layout})")
        if await ask(redis.set(keys.named("lease:layout"), owner, px=_BUSY_MS, nx=True)):
            break
        await asyncio.sleep(0.2)
    upgrade = _Upgrade(connection, keys, owner)
    await upgrade.run()
    await ask(redis.set(keys.named("layout"), LAYOUT))
    await ask(redis.delete(keys.named("lease:layout")))


class _Upgrade:
    def __init__(self, connection: RedisConnection, keys: RedisKeys, owner: str) -> None:
        self._redis = connection.client
        self._ask, self._each = connection.ask, connection.each
        self._keys = keys
        self._owner = owner
        self._spoke: dict[tuple[str, str], set[tuple[ConversationKey, UserKey]]] = defaultdict(set)

    async def run(self) -> None:
        platforms = await self._ask(self._redis.smembers(self._keys.named("platforms")))
        done = 0
        for platform in platforms:
            key = self._keys.named(f"open:{platform}")
            async for name in self._each(self._redis.sscan_iter(key, count=_PAGE)):
                conversation = conversation_of(name)
                if conversation is None:
                    continue
                await self._inbox(conversation)
                await self._person(conversation)
                await self._turns(conversation)
                await self._anchors(conversation)
                done += 1
                if done % 100 == 0:
                    await self._ask(
                        self._redis.set(self._keys.named("lease:layout"), self._owner, px=_BUSY_MS)
                    )
            await self._ask(self._redis.unlink(key))
        await self._settings()
        if done:
            _log.info("%d conversations are in this version's layout now", done)

    async def _inbox(self, conversation: ConversationKey) -> None:
        inbox = self._keys.of(conversation, "inbox")
        marks: dict[str, dict[str, str]] = defaultdict(dict)
        old: list[str] = []
        write = self._redis.pipeline(transaction=True)
        fields: dict[str, str] = await self._ask(self._redis.hgetall(inbox))
        ids = {field.partition(" ")[2] for field in fields if field.startswith(("message ", "dead "))}
        for field, value in fields.items():
            kind, _, rest = field.partition(" ")
            if kind == "message":
                arrival = value.partition(" ")[0]
                write.zadd(
                    self._keys.of(conversation, "queue"), {rest: int(arrival) if arrival.isdigit() else 0}
                )
                self._note_person(write, conversation, value)
            elif kind == "dead":
                at = value.partition(" ")[0]
                write.zadd(self._keys.named("letters"), {f"{conversation} {rest}": _number(at)})
                self._note_person(write, conversation, value)
            elif kind == "mark":
                update_id, _, name = rest.rpartition(" ")
                if update_id in ids:
                    marks[update_id][name] = value
                old.append(field)
        for update_id, found in marks.items():
            write.hset(inbox, f"marks {update_id}", json.dumps(found))
        if old:
            write.hdel(inbox, *old)
        if len(write):
            await self._ask(write.execute())

    async def _person(self, conversation: ConversationKey) -> None:
        """A conversation without turns or messages holds their number too."""
        if person := person_of(conversation):
            places = self._keys.owner(person, "places")
            await self._ask(self._redis.zadd(places, {str(conversation): 0}, nx=True))
            await self._ask(self._redis.unlink(self._keys.owner(person, "conversations")))

    def _note_person(self, write: Any, conversation: ConversationKey, value: str) -> None:
        try:
            user = UserKey.parse(kept_json(value.rpartition("\n")[2])["user"])
        except (ValueError, KeyError, TypeError):
            return
        write.zadd(self._keys.owner(user, "places"), {str(conversation): 0}, nx=True)

    async def _turns(self, conversation: ConversationKey) -> None:
        last: dict[UserKey, float] = {}
        oldest = float("inf")
        page: list[tuple[str, str]] = []
        async for entry in self._each(
            self._redis.hscan_iter(self._keys.of(conversation, "tree"), count=_PAGE)
        ):
            page.append(entry)
            if len(page) >= _PAGE:
                oldest = min(oldest, await self._index(conversation, page, last))
                page = []
        oldest = min(oldest, await self._index(conversation, page, last))
        for user, at in last.items():
            self._spoke[conversation.platform, conversation.chat].add((conversation, user))
            await self._ask(
                self._redis.zadd(self._keys.owner(user, "places"), {str(conversation): at}, gt=True)
            )
            await self._ask(self._redis.unlink(self._keys.owner(user, "conversations")))
        if last:
            recent = self._keys.named(f"recent:{conversation.platform}")
            await self._ask(self._redis.zadd(recent, {str(conversation): max(last.values())}))
            await self._ask(self._redis.zadd(self._keys.named("ages"), {str(conversation): oldest}))

    async def _index(
        self, conversation: ConversationKey, page: list[tuple[str, str]], last: dict[UserKey, float]
    ) -> float:
        write = self._redis.pipeline(transaction=False)
        turns = turns_of(page)
        for turn in turns:
            write.zadd(self._keys.of(conversation, "children"), {str(turn.id): turn.parent})
            write.sadd(self._keys.of(conversation, "people"), str(turn.user))
            write.zadd(self._keys.turns_of(conversation, turn.user), {str(turn.id): turn.at})
            last[turn.user] = max(turn.at, last.get(turn.user, turn.at))
        if turns:
            await self._ask(write.execute())
        return min((turn.at for turn in turns), default=float("inf"))

    async def _anchors(self, conversation: ConversationKey) -> None:
        refs = self._keys.of(conversation, "refs")
        async for ref, anchor in self._each(
            self._redis.hscan_iter(self._keys.of(conversation, "anchors"), count=_PAGE)
        ):
            turn = anchor.partition(" ")[0]
            if turn.isdigit():
                await self._ask(self._redis.zadd(refs, {ref: int(turn)}))

    async def _settings(self) -> None:
        owners = self._keys.named("owners")
        async for name in self._each(self._redis.sscan_iter(owners, count=_PAGE)):
            try:
                owner = owner_from(name)
            except ValueError:
                continue
            settings = await self._ask(self._redis.hgetall(self._keys.owner(name, "settings")))
            now = owner
            if isinstance(owner, ChatKey):
                now = owner_now(owner, self._spoke[owner.platform, owner.id])
            if now is not None and settings:
                await self._file(now, settings)
            if now != owner:
                await self._ask(self._redis.delete(self._keys.owner(name, "settings")))
        await self._ask(self._redis.unlink(owners, self._keys.named("dead")))

    async def _file(self, owner: UserKey | ChatKey, settings: dict[str, str]) -> None:
        await self._ask(self._redis.hset(self._keys.owner(owner, "settings"), mapping=settings))
        await self._ask(self._redis.zadd(self._keys.named("everyone"), {str(owner): 0}))
        if isinstance(owner, UserKey):
            await self._ask(self._redis.zadd(self._keys.named("persons"), {str(owner): 0}))
        elif owner.user:
            person = UserKey(owner.platform, owner.user)
            await self._ask(self._redis.sadd(self._keys.owner(person, "chats"), str(owner)))
        if "pairing" in settings:
            await self._ask(self._redis.sadd(self._keys.named("having:pairing"), str(owner)))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
