"""The journal over an outage of Redis: real servers that go and come back."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from glmbot.errors import StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.journal import JournaledRedisStore
from glmbot.store.message_json import message_to_json
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from redis_server import Server, eventually

CHAT = ConversationKey("telegram", "7")


def asked(number: int) -> Message:
    return Message(str(number), CHAT, UserKey("telegram", "7"), f"question {number}")


async def opened(
    server: Server, folder: Path, limit: int = 100, timeout_s: float = 1.0
) -> JournaledRedisStore:
    journal = folder / "journal.sqlite3"
    store = JournaledRedisStore(server.url, journal, journal_limit=limit, timeout_s=timeout_s)
    await store.open()
    return store


async def test_an_outage_is_carried_and_told_in_order_also_by_the_next_process(
    server: Server, tmp_path: Path
) -> None:
    # A server that is killed is gone at once; on a busy machine one that lives may take its time.
    store = await opened(server, tmp_path, limit=4, timeout_s=20.0)
    await store.accept(asked(1), 1.0)
    await store.claim(CHAT, 0.2)
    await server.kill()
    assert await store.accept(asked(2), 2.0)
    blue = StoredAnswer("blue", "final", "")
    assert await store.finish(asked(1), blue, question="question 1", at=3.0, parts="")
    await store.delivered(asked(1), ["m1"])
    await store.accept(asked(3), 4.0)
    assert store.journaled == 4
    with pytest.raises(StoreUnavailable, match="is full"):
        await store.accept(asked(4), 5.0)
    with pytest.raises(StoreUnavailable):
        await store.claim(CHAT, 20)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as db:
        steps = [json.loads(step) for (step,) in db.execute("SELECT step FROM steps")]
    # Earlier releases take a step with `parts` for a damaged one.
    assert [step["turn"] for step in steps if step["do"] == "finish"] == [
        {"question": "question 1", "at": 3.0}
    ]
    # The claim of the process that ends here runs out (in this test both have one process id).
    await asyncio.sleep(0.3)
    await server.start()
    again = await opened(server, tmp_path, timeout_s=20.0)
    assert again.journaled == 0
    assert [entry.message.update_id for entry in await again.unfinished("telegram")] == ["2", "3"]
    assert [turn.answer for turn in await again.last_turns(CHAT, 9)] == ["blue"]
    assert (await again.turn_of(CHAT, "m1")) is not None
    await again.close()


async def test_a_damaged_step_is_set_aside_and_the_next_ones_are_told(
    tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, prefix = tmp_path / "journal.sqlite3", f"damaged-{token_hex(4)}"
    store = JournaledRedisStore(redis_url, path, prefix=prefix)
    await store.open()
    await store.close()
    good: dict[str, Any] = {"do": "accept", "at": 1.0, "message": message_to_json(asked(1))}
    damaged: list[str] = [
        "{broken", "[]", "5", json.dumps({"do": "accept"}), json.dumps({**good, "at": "noon"}),
        json.dumps({**good, "do": "dance"}), json.dumps({**good, "do": []}), json.dumps({**good, "message": {**good["message"], "text": 5}}),
        json.dumps({**good, "do": "mark", "marks": {"a": 1}}), json.dumps({**good, "do": "delivered", "shown": [1]}),
        json.dumps({**good, "do": "finish", "answer": {"text": 1}, "turn": {}}),
        json.dumps({**good, "do": "finish", "answer": {"text": "a", "state": "final", "notice": ""}, "turn": {"evil": 1}}),
        json.dumps({**good, "do": "finish", "answer": {"text": "a", "state": "final", "notice": ""}, "turn": {"question": 5}}),
    ]  # fmt: skip
    with sqlite3.connect(path) as db:
        db.executemany(
            "INSERT INTO steps (step) VALUES (?)", [(step,) for step in (*damaged, json.dumps(good))]
        )
    assert path.stat().st_mode & 0o777 == 0o600
    store = JournaledRedisStore(redis_url, path, prefix=prefix)
    await store.open()
    assert store.journaled == 0
    assert [entry.message.update_id for entry in await store.unfinished("telegram")] == ["1"]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM damaged").fetchone() == (len(damaged),)
    assert caplog.text.count("is damaged and is left out") == len(damaged)
    await store.forget(asked(1).user)
    await store.close()


async def test_a_server_that_lacks_what_the_one_before_confirmed_is_told_it_again(
    server: Server, tmp_path: Path
) -> None:
    store = await opened(server, tmp_path)
    for number in (1, 2, 3):
        await store.accept(asked(number), float(number))
    for number in (1, 2):
        await store.finish(
            asked(number), StoredAnswer("a", "final", ""), question=f"question {number}", at=9.0
        )
    await store.delivered(asked(1), ["m1"])
    forgotten = Message("9", ConversationKey("telegram", "8"), UserKey("telegram", "8"), "forget me")
    await store.accept(forgotten, 4.0)
    await store.forget(forgotten.user)
    await server.kill()
    shutil.rmtree(server.folder)
    await server.start()
    assert await eventually(lambda: store.waiting("telegram", 0.05)) == [CHAT]
    assert [turn.question for turn in await store.last_turns(CHAT, 9)] == ["question 1", "question 2"]
    assert (await store.turn_of(CHAT, "m1")) is not None
    assert [entry.message.update_id for entry in await store.unfinished("telegram")] == ["2", "3"]
    await store.close()


async def test_nothing_new_comes_before_what_a_new_server_is_told_again(
    server: Server, tmp_path: Path
) -> None:
    store = await opened(server, tmp_path)
    chats = [ConversationKey("telegram", str(number)) for number in range(7, 12)]

    def said(number: int) -> list[Message]:
        return [
            Message(f"{chat.chat}-{number}", chat, UserKey("telegram", chat.chat), f"question {number}")
            for chat in chats
        ]

    for message in said(1):
        await store.accept(message, 1.0)
    await server.kill()
    shutil.rmtree(server.folder)
    await server.start()
    # Nobody has looked at the server since.
    await asyncio.gather(*(store.accept(message, 2.0) for message in said(2)))
    await eventually(lambda: store.waiting("telegram", 0.05))
    for chat in chats:
        found = [entry.message.update_id for entry in (await store.claim(chat, 5)).open]
        assert found == [f"{chat.chat}-1", f"{chat.chat}-2"]
    await store.close()


async def test_who_was_forgotten_is_forgotten_by_a_server_that_has_not_heard_of_it(
    server: Server, tmp_path: Path
) -> None:
    store = await opened(server, tmp_path)
    await store.accept(asked(1), 1.0)
    await store.forget(asked(1).user)
    # As if the server that comes back had missed it.
    replica = RedisStore(server.url)
    await replica.accept(asked(1), 1.0)
    await server.kill()
    await server.start()
    await eventually(lambda: store.waiting("telegram", 0.05))
    await store.waiting("telegram", 0.05)
    assert await store.unfinished("telegram") == []
    await store.accept(asked(2), 2.0)
    assert [entry.message.update_id for entry in await store.unfinished("telegram")] == ["2"]
    await store.close()
    await replica.close()
