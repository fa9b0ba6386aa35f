"""The journal over an outage of Redis: real servers that go and come back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from conftest import free_port
from glmbot.errors import StoreUnavailable
from glmbot.messages import ConversationKey, Message, UserKey
from glmbot.store.base import StoredAnswer
from glmbot.store.journal import JournaledRedisStore

CHAT = ConversationKey("telegram", 7)


def asked(number: int) -> Message:
    return Message(str(number), CHAT, UserKey("telegram", 7), f"question {number}")


def redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    options = ["--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    return subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)


async def opened(port: int, folder: Path, limit: int = 100) -> JournaledRedisStore:
    store = JournaledRedisStore(
        f"redis://127.0.0.1:{port}/0", folder / "journal.sqlite3", journal_limit=limit, timeout_s=1.0
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            await store.open()
            return store
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_an_outage_is_carried_and_told_in_order_also_by_the_next_process(tmp_path: Path) -> None:
    port = free_port()
    server = redis(port, tmp_path)
    store = await opened(port, tmp_path, limit=4)
    await store.accept(asked(1), 1.0)
    await store.claim(CHAT, 0.2)
    server.kill()
    server.wait()
    assert await store.accept(asked(2), 2.0)
    assert await store.finish(asked(1), StoredAnswer("blue", "final", ""), question="question 1", at=3.0)
    await store.delivered(asked(1), ["m1"])
    await store.accept(asked(3), 4.0)
    assert store.journaled == 4
    with pytest.raises(StoreUnavailable, match="is full"):
        await store.accept(asked(4), 5.0)
    with pytest.raises(StoreUnavailable):
        await store.claim(CHAT, 20)
    await store.close()
    # The claim of the process that ends here runs out (in this test both have one process id).
    await asyncio.sleep(0.3)
    server = redis(port, tmp_path)
    again = await opened(port, tmp_path)
    assert again.journaled == 0
    assert [entry.message.update_id for entry in await again.unfinished("telegram")] == ["2", "3"]
    assert [turn.answer for turn in await again.last_turns(CHAT, 9)] == ["blue"]
    assert (await again.turn_of(CHAT, "m1")) is not None
    await again.close()
    server.terminate()
    server.wait()
