"""The worst values in every field, member and score of what Redis keeps, and in every field of what is JSON there,
beside somebody else's answer. Who did that may have lost it; everybody else is answered, and nothing ends."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from glmbot.keys import UserKey
from glmbot.store.redis import RedisStore
from robustness.stored import fill_store, look_beside_somebody_else
from robustness.talk import PLATFORM
from robustness.values import TEXTS, Case, cases, sampled

_AT_ONCE = 20
_TEMPLATE = 7000
_VALUES: dict[str, bytes] = {
    "bytes": b"\xff\x00\xed\xa0\x80",
    **{
        f"text: {name}": text.encode("utf-8", "surrogatepass")
        for name, text in TEXTS.items()
        # As long as the longest that anybody may send; more would measure Redis.
        if len(text) < 1_000_000
    },
}
_SCORES = {"infinite": "inf", "-infinite": "-inf", "1e308": "1e308", "-1": "-1"}


@dataclass(frozen=True, slots=True)
class _Damage:
    """`part`: what follows the person in a key, or the name of an index of all. `where`: "value N", "member N",
    "score", "type" or "more" (one more in an index of all)."""

    part: str
    where: str
    what: str
    value: Any

    @property
    def place(self) -> str:
        return f"{self.part} {self.where}"


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncGenerator[Any]:
    client: Any = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def keys_of(redis: Any, prefix: str, person: int) -> dict[str, str]:
    """By the part that follows."""
    found: dict[str, str] = {}
    async for key in redis.scan_iter(match=f"{prefix}:*{PLATFORM}:{person}*", count=1000):
        found[key.decode().rpartition(":")[2].replace(str(person), "PERSON")] = key.decode()
    return found


def shared(prefix: str) -> dict[str, str]:
    names = ["letters", "ages", "everyone", "persons", f"recent:{PLATFORM}", f"pending:{PLATFORM}"]
    return {name: f"{prefix}:{name}" for name in [*names, "forgetting", "moves", "having:pairing"]}


async def damages(redis: Any, prefix: str) -> list[_Damage]:
    found: list[_Damage] = []
    for part, key in (await keys_of(redis, prefix, _TEMPLATE)).items():
        kind = (await redis.type(key)).decode()
        found += [_Damage(part, "type", f"not a {kind}", None)]
        wheres = {"hash": ["value", "field"], "zset": ["member"], "set": ["member"], "string": ["value"]}[
            kind
        ]
        for where in wheres:
            found += [_Damage(part, where, what, value) for what, value in _VALUES.items()]
        if kind == "zset":
            found += [_Damage(part, "score", what, value) for what, value in _SCORES.items()]
        if kind == "hash":
            for field, value in (await redis.hgetall(key)).items():
                found += [
                    _Damage(part, f"value of {field.split()[0].decode()}: {case.place}", case.what, case)
                    for case in _json_in(value.decode())
                ]
    for name in shared(prefix):
        found += [_Damage(name, "more", what, value) for what, value in _VALUES.items()]
    return found


def _json_in(value: str) -> Iterator[Case]:
    body = value.rpartition("\n")[2]
    if body.startswith("{") and len(body) > 2:
        yield from cases(json.loads(body))


async def damage(redis: Any, prefix: str, each: _Damage, person: int) -> None:
    if each.where == "more":
        await _one_more(redis, shared(prefix)[each.part], each.value)
        return
    key = (await keys_of(redis, prefix, person)).get(each.part)
    if key is None:
        return
    kind = (await redis.type(key)).decode()
    if each.where == "type":
        await redis.delete(key)
        await (redis.set(key, "x") if kind != "string" else redis.sadd(key, "x"))
    elif each.where == "score":
        for member in await redis.zrange(key, 0, -1):
            await redis.zadd(key, {member: each.value})
    elif kind == "hash":
        for field, old in (await redis.hgetall(key)).items():
            if each.where == "field":
                await redis.hdel(key, field)
                await redis.hset(key, each.value, old)
            elif not isinstance(each.value, Case):
                await redis.hset(key, field, each.value)
            elif (head := old.rpartition(b"\n"))[2].startswith(b"{"):
                text = each.value.text.encode("utf-8", "surrogatepass")
                await redis.hset(key, field, head[0] + head[1] + text)
    elif kind == "string":
        await redis.set(key, each.value)
    else:
        await redis.delete(key)
        await (redis.zadd(key, {each.value: 1}) if kind == "zset" else redis.sadd(key, each.value))


async def _one_more(redis: Any, key: str, value: bytes) -> None:
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: redis.zadd(key, {value: 1}), lambda: redis.sadd(key, value), lambda: redis.hset(key, value, value),
    ]  # fmt: skip
    for write in writes:
        try:
            await write()
        except RedisError:
            continue
        return


@pytest.mark.timeout(3600)
async def test_the_worst_rows_in_redis_harm_nobody_else(redis: Any, redis_url: str) -> None:
    """A damage for each of several people under one prefix, which is opened, read and answered from."""
    people = range(7001, 7001 + _AT_ONCE)
    prefix = f"test-{time.time_ns()}"
    store = RedisStore(redis_url, prefix=prefix)
    await store.open()
    await fill_store(store, [_TEMPLATE])
    await store.set_setting(UserKey(PLATFORM, str(_TEMPLATE)), "pairing", "1")
    found = await damages(redis, prefix)
    await store.close()
    assert len({each.part for each in found}) > 15
    chosen = sampled(found, 100)
    for first in range(0, len(chosen), _AT_ONCE):
        together = list(zip(people, chosen[first : first + _AT_ONCE], strict=False))
        prefix = f"test-{time.time_ns()}"
        store = RedisStore(redis_url, prefix=prefix)
        await store.open()
        await fill_store(store, people)
        for person, each in together:
            await damage(redis, prefix, each, person)
        what = " | ".join(f"{person}: {each.place} = {each.what}" for person, each in together)
        await look_beside_somebody_else(store, people, what)
        await store.close()
