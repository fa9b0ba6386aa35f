"""What the release before wrote is taken over with all it holds: files and keys that its code made (tests/data/)."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from glmbot.backup import restore
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Store
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from glmbot.store.sealed import sealed
from glmbot.store.sqlite import SqliteStore
from glmbot_console.normalize import normalize

RELEASED = Path(__file__).parents[1] / "data" / "ff5ce4b"
# Of these files and of nothing else.
KEY = "Z2xtYm90IHRlc3QgZGF0YSBvZiBmZjVjZTRiISEhISE="
ANN, HOME = UserKey("telegram", "11"), ConversationKey("telegram", "11")
ROOT, TERMINAL = UserKey("console", "0"), ConversationKey("console", "0")
PROMPTS = {
    "console:chat:0": "prompt of root",
    "discord:31:chat:900": "prompt of discord 900",
    "discord:chat:901": "prompt of discord 901",
    "telegram:11:chat:11": "prompt of telegram 11",
    "telegram:chat:-5": "prompt of telegram -5",
    "web:5:chat:77": "prompt of web 77",
}


async def _redis(url: str, file: Path) -> RedisStore:
    prefix = f"old-{token_hex(4)}"
    redis = RedisStore(url, prefix=prefix)
    written: dict[str, Any] = json.loads(file.read_text())
    for key, (kind, value) in written.items():
        name = key.replace("old:", f"{prefix}:", 1)
        await {
            "hash": lambda name=name, value=value: redis._redis.hset(name, mapping=value),
            "set": lambda name=name, value=value: redis._redis.sadd(name, *value),
            "string": lambda name=name, value=value: redis._redis.set(name, value),
            "zset": lambda name=name, value=value: redis._redis.zadd(name, dict(value)),
        }[kind]()
    return redis


@pytest.fixture(params=["sqlite", "redis", "sealed sqlite", "sealed redis"])
async def taken_over(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    *encrypted, kind = request.param.split()
    made: Store
    if kind == "sqlite":
        path = tmp_path / "store.sqlite3"
        with sqlite3.connect(path) as db:
            db.executescript((RELEASED / f"{'sealed_' if encrypted else ''}store.sql").read_text())
        made = SqliteStore(path)
    else:
        file = RELEASED / f"{'sealed_' if encrypted else ''}redis.json"
        made = await _redis(request.getfixturevalue("redis_url"), file)
    made = sealed(made, [KEY] if encrypted else [])
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("file", ["store.backup", "sealed_store.backup"])
async def test_a_backup_has_every_turn_branch_and_setting(store: Store, file: str) -> None:
    """The store has what other tests left in it, too."""
    path = RELEASED / file
    for conversation in {line["conversation"] for line in _lines(path) if "conversation" in line}:
        await store.reset(ConversationKey.parse(conversation))
    done = await restore(store, path)
    assert (done.conversations, done.kept) == (9, 0)
    assert [turn.question for turn in await store.last_turns(HOME, 9)] == [
        "question 1",
        "question 4",
        "waits",
    ]
    older = await store.turn_of(HOME, "q3")
    assert older is not None
    before = [turn.question for turn in await store.last_turns(HOME, 9, upto=older.id)]
    assert before == ["question 1", "question 2", "question 3"]
    assert [turn.user for turn in await store.last_turns(TERMINAL, 9)] == [ROOT]
    settings = await store.all_settings()
    assert {owner: settings[owner]["prompt"] for owner in PROMPTS} == PROMPTS
    assert settings["telegram:11"]["language"] == "zh"
    assert settings["console:0"]["language"] == "en"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


async def test_the_terminal_of_root_has_what_it_had(taken_over: Store) -> None:
    """Its person's id is the text that is also written for nobody."""
    said = normalize("hi", user_id="0", user_name="root", language="en")
    assert (said.user, said.conversation) == (ROOT, TERMINAL)
    assert [turn.question for turn in await taken_over.last_turns(said.conversation, 9)] == ["question 12"]
    assert (await taken_over.settings(said.chat))["prompt"] == "prompt of root"
    assert (await taken_over.settings(said.user))["language"] == "en"


async def test_histories_with_their_branches(taken_over: Store) -> None:
    turns = await taken_over.last_turns(HOME, 9)
    assert [turn.question for turn in turns] == ["question 1", "question 4", "waits"]
    older = await taken_over.turn_of(HOME, "b3")
    assert older is not None
    assert [turn.question for turn in await taken_over.last_turns(HOME, 9, upto=older.id)] == [
        "question 1",
        "question 2",
        "question 3",
    ]
    assert await taken_over.shown(HOME, older.id) == ["a3", "b3"]
    (first, second) = await taken_over.conversation_summaries(ANN, 9)
    assert (first.conversation, first.title, first.turns) == (HOME, "question 1", 5)
    assert second.conversation == ConversationKey("telegram", "-5", "11", "3")
    assert sum([len(each.turns) async for each in taken_over.everything()]) == 13
    assert len(await taken_over.recent(1006.0)) == 8


async def test_what_waits_and_what_was_set_aside(taken_over: Store) -> None:
    (entry,) = (await taken_over.claim(HOME, 5)).open
    assert (entry.message.text, entry.marks) == ("waits", {"sent": "[1, 2]", "tries": "1"})
    assert await taken_over.answer(entry.message) == StoredAnswer("half shown", "final", "")
    assert HOME in await taken_over.open_conversations("telegram")
    (letter,) = await taken_over.dead_letters()
    assert (letter.message.text, letter.reason) == ("failed", "refused five times")
    assert (await taken_over.backlog()).dead == 1
    assert not await taken_over.accept(entry.message, 3000.0)
    assert await taken_over.replay(letter.message)


async def test_private_settings_are_their_persons(taken_over: Store) -> None:
    """And nobody's where several knew the number."""
    owners = {
        owner: found["prompt"]
        for owner, found in (await taken_over.all_settings()).items()
        if "prompt" in found
    }
    assert owners == PROMPTS
    assert (await taken_over.settings(ChatKey("telegram", "-5")))["mode"] == "all"
    assert list(await taken_over.having("pairing", 9)) == ["telegram:33"]
    assert list(await taken_over.people(9)) == ["console:0", "telegram:11", "telegram:33"]
    assert await taken_over.counted("telegram:11", 2000.0) == 1


async def test_it_goes_on_and_can_be_forgotten(taken_over: Store, tmp_path: Path) -> None:
    (entry,) = (await taken_over.claim(HOME, 5)).open
    await taken_over.delivered(entry.message, ["a20"])
    found = await taken_over.turn_of(HOME, "a20")
    assert found is not None
    await taken_over.remove_turn(HOME, 1)
    assert [turn.question for turn in await taken_over.last_turns(HOME, 9)] == ["question 4", "waits"]
    assert await taken_over.forget(ANN) == 5
    assert await taken_over.forget(UserKey("web", "5")) == 2
    assert "web:5:chat:77" not in await taken_over.all_settings()
    assert "telegram:11:chat:11" not in await taken_over.all_settings()
    assert await taken_over.dead_letters() == []


async def test_it_is_taken_over_once(taken_over: Store) -> None:
    await taken_over.set_setting(ChatKey("web", "77", "5"), "prompt", "")
    await taken_over.open()
    assert "web:5:chat:77" not in await taken_over.all_settings()
