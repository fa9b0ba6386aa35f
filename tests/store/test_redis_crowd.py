"""A Redis that many ask at once, and one that holds names which are no text."""

from __future__ import annotations

import asyncio
from secrets import token_hex

from redis.asyncio import Redis

from glmbot.keys import ConversationKey, UserKey
from glmbot.store.redis import RedisStore


async def test_however_many_ask_at_once_all_are_answered(redis_url: str) -> None:
    store = RedisStore(redis_url, prefix=f"crowd-{token_hex(4)}")
    await store.open()
    chats = [ConversationKey("telegram", str(number)) for number in range(400)]
    claims = await asyncio.gather(*(store.claim(chat, 5) for chat in chats))
    assert all(not claim.open for claim in claims)
    await store.close()


async def test_a_walk_over_all_names_ends_also_at_those_that_are_no_text(redis_url: str) -> None:
    prefix = f"names-{token_hex(4)}"
    store = RedisStore(redis_url, prefix=prefix)
    await store.open()
    await store.set_setting(UserKey("telegram", "7"), "mode", "all")
    client = Redis.from_url(redis_url)
    for index in ("everyone", "persons"):
        await client.zadd(f"{prefix}:{index}", {b"\xfe": 0, b"\xff": 0})
    async with asyncio.timeout(90):
        assert set(await store.all_settings()) == {"telegram:7"}
        assert set(await store.people(100)) == {"telegram:7"}
    await client.aclose()
    await store.close()
