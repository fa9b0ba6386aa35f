"""What a failover looks like to questions that are under way in its moment."""

from __future__ import annotations

from hashlib import sha1
from secrets import token_hex

import pytest
from redis.asyncio import Redis

from glmbot.errors import StoreUnavailable
from glmbot.messages import ConversationKey
from glmbot.store.redis import RedisStore


async def test_a_script_that_was_loaded_into_the_server_before_is_asked_again_later(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"failover-{token_hex(4)}"
    store = RedisStore(redis_url, prefix=prefix)
    await store.open()
    conversation = ConversationKey("telegram", 7)

    async def loads_elsewhere(_: Redis, script: str) -> str:
        """Into the server that was the master then, and is none when the script is run."""
        return sha1(script.encode()).hexdigest()

    async with Redis.from_url(redis_url) as client:
        await client.script_flush()
    with monkeypatch.context() as patch:
        patch.setattr(Redis, "script_load", loads_elsewhere)
        with pytest.raises(StoreUnavailable):
            await store.claim(conversation, 5)
    assert not (await store.claim(conversation, 5)).open
    await store.close()
