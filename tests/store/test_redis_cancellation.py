"""A cancellation that comes while Redis is asked is never lost, whatever the client makes of it."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from glmbot.keys import ConversationKey
from glmbot.store.redis import RedisStore
from glmbot.store.redis_connection import RedisConnection


async def swallowed(fails: bool) -> int:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if fails:
            raise RedisConnectionError from None
    return 7


@pytest.mark.parametrize("fails", [False, True])
async def test_what_the_client_swallows_still_ends_who_asked(fails: bool) -> None:
    connection = RedisConnection("redis://127.0.0.1:9/0", 1.0)
    asking = asyncio.create_task(connection.ask(swallowed(fails)))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await connection.close()


async def test_who_asks_while_being_cancelled_is_answered(redis_url: str) -> None:
    store = RedisStore(redis_url, prefix="cancelled")
    await store.open()
    kept: list[int] = []

    async def asks_at_last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            kept.append(len(await store.last_turns(ConversationKey("telegram", "1"), 5)))

    asking = asyncio.create_task(asks_at_last())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert kept == [0]
    await store.close()


async def test_a_time_limit_that_comes_with_the_answer_is_a_time_limit() -> None:
    connection = RedisConnection("redis://127.0.0.1:9/0", 1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await connection.ask(swallowed(fails=False))
    await connection.close()
