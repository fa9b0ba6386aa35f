"""What Redis keeps of people and chats beside their histories: their settings, and what they asked of late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from glmbot.keys import ChatKey, UserKey
from glmbot.store.base import HOUR_S, INDEXED
from glmbot.store.redis_part import RedisPart

__all__ = ["RedisOwners"]

_OWNERS_AT_ONCE = 500


class RedisOwners(RedisPart):
    async def count(self, question: str, limits: Mapping[str, int], at: float) -> float:
        keys = [self._keys.asked(owner) for owner in limits]
        given = [question, repr(at), repr(HOUR_S), *(str(min(limit, 2**31)) for limit in limits.values())]
        return float(await self._connection.run("count", keys, *given))

    async def counted(self, owner: str, at: float) -> int:
        window = (f"({at - HOUR_S!r}", repr(at + HOUR_S))
        return int(await self._ask(self._redis.zcount(self._keys.asked(owner), *window)))

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
