"""What a failover looks like to questions that are under way in its moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha1
from secrets import token_hex

import pytest
from redis.asyncio import Redis

from glmbot.errors import StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from redis_server import Server


async def test_a_script_that_was_loaded_into_the_server_before_is_asked_again_later(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"failover-{token_hex(4)}"
    store = RedisStore(redis_url, prefix=prefix)
    await store.open()
    conversation = ConversationKey("telegram", "7")

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


async def test_a_master_without_its_replicas_is_away_for_whatever_would_write(server: Server) -> None:
    """Which it is for a moment of each failover that is asked for."""
    user, conversation = UserKey("telegram", "7"), ConversationKey("telegram", "7")
    first = Message("1", conversation, user, "a question", ref="1")
    second = Message("2", conversation, user, "another", ref="2")
    store = RedisStore(server.url)
    await store.open()
    await store.accept(first, 1.0)
    await store.claim(conversation, 60)
    writing: dict[str, Callable[[], Awaitable[object]]] = {
        "accept": lambda: store.accept(second, 2.0),
        "claim": lambda: store.claim(conversation, 60),
        "count": lambda: store.count("1", {"total": 5}, 1.0),
        "mark": lambda: store.mark(first, {"a": "b"}),
        "finish": lambda: store.finish(
            first, StoredAnswer("words", "final", ""), question="a question", at=1.0
        ),
        "delivered": lambda: store.delivered(first, ["9"]),
        "set_setting": lambda: store.set_setting(user, "language", "zh"),
        "reset": lambda: store.reset(conversation),
        "forget": lambda: store.forget(user),
        "release": lambda: store.release(conversation),
    }
    await server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    for name, write in writing.items():
        assert await is_away(write), name
    await server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    assert not [name for name, write in writing.items() if await is_away(write)]
    await store.close()


async def is_away(write: Callable[[], Awaitable[object]]) -> bool:
    try:
        await write()
    except StoreUnavailable:
        return True
    return False
