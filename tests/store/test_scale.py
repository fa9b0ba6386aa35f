"""No step of a message grows with history or people: by what is asked of the store, not by time (bench/scale.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest

from glmbot.dialogue.access import Access
from glmbot.dialogue.people import People
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.blobs import keep
from glmbot.store.records import StoredAnswer, StoredConversation, Turn
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore

ANN, HOME = UserKey("telegram", "11"), ConversationKey("telegram", "11")
GROUP = ConversationKey("telegram", "-5")
# What walks over an index of only those rows that wait or were set aside.
_SHORT = ("inbox_conversation", "inbox_open", "inbox_dead")


async def steps(store: Store, number: int) -> dict[str, Callable[[], Awaitable[object]]]:
    message = Message(f"u{number}", HOME, ANN, "hi", ref=f"q{number}")
    answer = StoredAnswer("a", "final", "")
    people = People(store, Access(), lambda: 9e5)
    stranger = Message("x", ConversationKey("telegram", "77"), UserKey("telegram", "77"), "hi")
    return {
        "accept": lambda: store.accept(message, 1e5),
        "claim": lambda: store.claim(HOME, 20),
        "settings": lambda: store.settings(ANN),
        "count": lambda: store.count(f"u{number}", {str(ANN): 5000, "all": 0}, 1e5),
        "counted": lambda: store.counted(str(ANN), 1e5),
        "last_turns": lambda: store.last_turns(HOME, 5),
        "mark": lambda: store.mark(message, {"tries": "1"}),
        "epoch": lambda: store.epoch(HOME),
        "finish": lambda: store.finish(message, answer, question="hi", at=1e5, ref=f"q{number}"),
        "answer": lambda: store.answer(message),
        "delivered": lambda: store.delivered(message, [f"a{number}"]),
        "followers": lambda: store.followers(HOME, [0, 1, 2]),
        "lead": lambda: store.lead(HOME, 4, {"m4": 4}),
        "turn_of": lambda: store.turn_of(HOME, f"a{number}"),
        "shown": lambda: store.shown(HOME, 3),
        "list": lambda: store.conversation_summaries(ANN, 1),
        "code": lambda: people.code_for(stranger),
        "people": lambda: store.people(3, "telegram:2"),
        "remove": lambda: store.remove_turn(HOME, number),
        "put a file": lambda: keep(store, HOME, ANN, b"x", media_type="a/b", name="x", at=1e5),
        "know a file": lambda: store.blob(HOME, sha256(b"x").hexdigest()),
        "measure files": lambda: store.blob_bytes(ANN),
        "remove a file": lambda: store.remove_blob(HOME, sha256(b"x").hexdigest()),
        "tidy": lambda: store.tidy(1e5),
        "check": lambda: store.check(),
    }  # fmt: skip


async def fill(store: Store, turns: int) -> None:
    for conversation, user in ((HOME, ANN), (GROUP, UserKey("telegram", "22"))):
        made = [Turn(n, user, "q", "a", 1000.0 + n, n - 1, f"m{n}") for n in range(1, turns + 1)]
        await store.put(StoredConversation(conversation, made, turns))
    for number in range(turns):
        await store.set_setting(UserKey("telegram", str(1000 + number)), "access", "user")
        await store.count(f"old {number}", {str(ANN): 0}, 99_000.0 + number)


async def test_sqlite_searches_and_never_scans(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3", turns_kept_s=1e9)
    await store.open()
    await fill(store, 50)
    asked: dict[str, set[str]] = {}
    connection = store._connection
    for name, step in (await steps(store, 1)).items():
        found = asked.setdefault(name, set())
        for db in (connection._db, connection._read_db):
            db.set_trace_callback(found.add)
        await step()
    for db in (connection._db, connection._read_db):
        db.set_trace_callback(None)
    await store.close()
    plans: list[str] = []
    with sqlite3.connect(tmp_path / "s.sqlite3") as db:
        for name, statements in asked.items():
            for statement in statements:
                if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                    continue
                for row in db.execute(f"EXPLAIN QUERY PLAN {statement.replace('Inf', '1e999')}"):
                    if row[3].startswith("SCAN") and not any(word in row[3] for word in _ALLOWED):
                        plans.append(f"{name}: {row[3]}: {statement}")
    assert plans == []


# A recursion's own rows, and tables that hold only what is under way.
_UNDER_WAY = (
    "SCAN branch",
    "SCAN moves",
    "SCAN forgetting",
    "SCAN resetting",
    "SCAN health",
    "SCAN json_each",
)
_ALLOWED = ("CONSTANT ROW", *_UNDER_WAY, *_SHORT)


async def test_redis_does_as_much_for_a_long_history_as_for_a_short_one(
    redis_url: str, tmp_path: Path
) -> None:
    counted: list[dict[str, int]] = []
    for turns in (20, 400):
        store = RedisStore(redis_url, prefix=f"scale{turns}{tmp_path.name}", turns_kept_s=1e9)
        await store.open()
        await fill(store, turns)
        for step in (await steps(store, 1)).values():
            await step()
        counts: dict[str, int] = {}
        for name, step in (await steps(store, 2)).items():
            before = await calls(store)
            await step()
            counts[name] = await calls(store) - before
        counted.append(counts)
        await store.close()
    assert counted[0] == counted[1]
    assert max(counted[0].values()) < 60


async def calls(store: RedisStore) -> int:
    """Commands that the server carried out, those of scripts among them."""
    stats = await store._redis.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name not in ("cmdstat_info", "cmdstat_xread"))


@pytest.mark.parametrize("turns", [0, 1, 130])
async def test_a_person_of_a_group_is_forgotten_in_small_steps_and_the_rest_stays_joined(
    store: Store, turns: int
) -> None:
    both = [
        Turn(n, ANN if n % 3 else UserKey("telegram", "22"), f"{n}", "a", float(n), n - 1, f"m{n}")
        for n in range(1, turns + 1)
    ]
    await store.put(StoredConversation(GROUP, both, turns))
    left = [turn.question for turn in both if turn.user != ANN]
    assert await store.forget(ANN) == turns - len(left)
    assert [turn.question for turn in await store.last_turns(GROUP, 1000)] == left
    assert await store.conversations(ANN) == []
    assert [
        turn.question for each in await store.export(UserKey("telegram", "22")) for turn in each.turns
    ] == left


async def test_pages_together_are_everything_once(store: Store) -> None:
    for number in range(1, 8):
        at = float(number // 2)
        key = ConversationKey("telegram", "11", "", str(number))
        await store.put(StoredConversation(key, [Turn(1, ANN, f"title {number}", "a", at, 0, "")], 1))
        await store.set_setting(UserKey("telegram", str(number)), "language", "zh")
    seen: list[str] = []
    before = None
    while page := await store.conversation_summaries(ANN, 2, before):
        seen += [each.title for each in page]
        before = (page[-1].at, str(page[-1].conversation))
    assert sorted(seen) == [f"title {number}" for number in range(1, 8)]
    assert seen[0] == "title 7"
    people: list[str] = []
    while page_of := await store.people(2, people[-1] if people else ""):
        people += page_of
    assert people == [f"telegram:{number}" for number in range(1, 8)]
