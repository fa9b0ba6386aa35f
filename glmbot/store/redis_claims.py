"""Which process answers what, over Redis: one stream of work a platform with one consumer group.

An announcement names a conversation. The claim is a key beside the conversation's own, so that claiming and
reading what is open is one step; the stream only carries the news and shares it out. What a lost announcement or a
dead process leaves behind is found again in the set of open conversations.

    PREFIX:work:platform      stream, group "glmbot"          PREFIX:{conversation}:claim   who has it, for a while
    PREFIX:pending:platform   set of open conversations       PREFIX:lease:name             likewise
    PREFIX:signals            stream that every process reads
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import Any

from redis.exceptions import ResponseError

from glmbot.errors import StoreError
from glmbot.keys import ConversationKey
from glmbot.store.ownership import is_gone
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import conversation_of

__all__ = ["RedisClaims"]

_GROUP = "glmbot"
_READ_AT_ONCE = 8
_READ_TO_ERASE = 500
_SIGNALS_KEPT = 1000
_CONSUMER_FORGOTTEN_MS = 3_600_000


class RedisClaims:
    def __init__(self, connection: RedisConnection, prefix: str, owner: str) -> None:
        self._connection = connection
        self._redis = connection.client
        self._prefix = prefix
        self._owner = owner
        self._entries: dict[ConversationKey, list[str]] = defaultdict(list)
        self._signals_from: str | None = None

    async def announce(self, conversation: ConversationKey) -> None:
        await self._ask(
            self._redis.xadd(self._work(conversation.platform), {"conversation": str(conversation)})
        )

    async def open(self, conversation: ConversationKey) -> None:
        await self._ask(self._redis.sadd(self._pending(conversation.platform), str(conversation)))

    async def pending(self, platform: str) -> int:
        """Open conversations."""
        return int(await self._ask(self._redis.scard(self._pending(platform))))

    async def pending_conversations(self, platform: str) -> list[ConversationKey]:
        names = await self._ask(self._redis.smembers(self._pending(platform)))
        return [found for name in sorted(names) if (found := conversation_of(name)) is not None]

    async def settled(self, conversation: ConversationKey, *, nothing_open: bool) -> None:
        """The news of this conversation needs nothing more from this process."""
        if nothing_open:
            await self._ask(self._redis.srem(self._pending(conversation.platform), str(conversation)))
        if entries := self._entries.pop(conversation, []):
            await self._ask(self._redis.xack(self._work(conversation.platform), _GROUP, *entries))
            await self._ask(self._redis.xdel(self._work(conversation.platform), *entries))

    async def erase(self, conversations: Set[ConversationKey]) -> None:
        """Leave no mention of them. The streams hold what is not yet answered; a page is read at a time."""
        for conversation in conversations:
            await self.settled(conversation, nothing_open=True)
        names = {str(conversation) for conversation in conversations}
        for platform in {conversation.platform for conversation in conversations}:
            stream, after = self._work(platform), "-"
            while page := await self._ask(self._redis.xrange(stream, min=after, count=_READ_TO_ERASE)):
                gone = [entry_id for entry_id, fields in page if fields["conversation"] in names]
                if gone:
                    await self._ask(self._redis.xdel(stream, *gone))
                after = f"({page[-1][0]}"
        if conversations:
            # Signals only hasten what processes find out by themselves.
            await self._ask(self._redis.xtrim(self._key("signals"), maxlen=0, approximate=False))

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        stream = self._work(platform)

        def read() -> Any:
            return self._redis.xreadgroup(
                _GROUP, self._owner, {stream: ">"}, count=_READ_AT_ONCE, block=max(1, int(wait_s * 1000))
            )

        try:
            found = await self._ask(read())
        except StoreError as error:
            if not (isinstance(error.__cause__, ResponseError) and "NOGROUP" in str(error)):
                raise
            await self._make_group(stream)
            found = await self._ask(read())
        return self._note([entry for _, entries in _pairs(found) for entry in entries])

    async def open_conversations(self, platform: str, idle_s: float) -> Sequence[ConversationKey]:
        """Beside what is open, takes over the news that processes silent for `idle_s` had read."""
        stream = self._work(platform)
        await self._make_group(stream)
        _, entries, *_ = await self._ask(
            self._redis.xautoclaim(stream, _GROUP, self._owner, int(idle_s * 1000), count=100)
        )
        for consumer in await self._ask(self._redis.xinfo_consumers(stream, _GROUP)):
            if consumer["pending"] == 0 and consumer["idle"] > _CONSUMER_FORGOTTEN_MS:
                await self._ask(self._redis.xgroup_delconsumer(stream, _GROUP, consumer["name"]))
        pending = await self._ask(self._redis.smembers(self._pending(platform)))
        found = {*self._note(entries), *map(conversation_of, pending)}
        return sorted((each for each in found if each is not None), key=str)

    async def keep(self) -> None:
        """Show that this process still works on what it has read."""
        by_stream: dict[str, list[str]] = defaultdict(list)
        for conversation, entries in self._entries.items():
            by_stream[self._work(conversation.platform)] += entries
        for stream, entries in by_stream.items():
            await self._ask(self._redis.xclaim(stream, _GROUP, self._owner, 0, entries, justid=True))

    async def signal(self, words: str) -> None:
        fields = {"from": self._owner, "words": words}
        await self._ask(
            self._redis.xadd(self._key("signals"), fields, maxlen=_SIGNALS_KEPT, approximate=True)
        )

    async def signals(self, wait_s: float) -> Sequence[str]:
        stream = self._key("signals")
        if self._signals_from is None:
            last = await self._ask(self._redis.xrevrange(stream, count=1))
            self._signals_from = str(last[0][0]) if last else "0-0"
        found = await self._ask(
            self._redis.xread({stream: self._signals_from}, block=max(1, int(wait_s * 1000)))
        )
        words: list[str] = []
        for _, entries in _pairs(found):
            for entry_id, fields in entries:
                self._signals_from = entry_id
                if fields["from"] != self._owner:
                    words.append(fields["words"])
        return words

    async def lease(self, name: str, lasts_s: float) -> str:
        key, lasts = self._key(f"lease:{name}"), str(int(lasts_s * 1000))
        holder = str(await self._connection.run("lease", [key], self._owner, lasts, ""))
        if holder != self._owner and is_gone(holder):
            holder = str(await self._connection.run("lease", [key], self._owner, lasts, holder))
        return holder

    async def end_lease(self, name: str) -> None:
        await self._connection.run("release", [self._key(f"lease:{name}")], self._owner)

    def _note(self, entries: Sequence[tuple[str, dict[str, str] | None]]) -> list[ConversationKey]:
        found: list[ConversationKey] = []
        for entry_id, fields in entries:
            # An entry that was deleted meanwhile comes without fields.
            if fields:
                conversation = conversation_of(fields["conversation"])
                if conversation is None:
                    continue
                self._entries[conversation].append(entry_id)
                found.append(conversation)
        return found

    async def _make_group(self, stream: str) -> None:
        try:
            await self._ask(self._redis.xgroup_create(stream, _GROUP, "0", mkstream=True))
        except StoreError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _work(self, platform: str) -> str:
        return self._key(f"work:{platform}")

    def _pending(self, platform: str) -> str:
        return self._key(f"pending:{platform}")

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    async def _ask(self, answer: Any) -> Any:
        return await self._connection.ask(answer)


def _pairs(found: Any) -> Any:
    """XREAD's answer in both of its shapes: pairs, or a mapping under RESP3."""
    if isinstance(found, dict):
        return [(name, [entry for batch in batches for entry in batch]) for name, batches in found.items()]
    return found or []
