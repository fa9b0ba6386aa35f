"""One damaged row is set aside and harms nobody; a file that is not the one that was opened is noticed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from glmbot.errors import StoreError, StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store
from glmbot.store.message_json import message_from_json, message_to_json
from glmbot.store.records import StoredAnswer, StoredConversation, Turn
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore

ANN, HOME = UserKey("telegram", "11"), ConversationKey("telegram", "11")
GOOD = json.dumps(message_to_json(Message("u1", HOME, ANN, "hi")))
FIELDS: dict[str, Any] = json.loads(GOOD)

DAMAGE: list[tuple[str, str]] = [
    ("{broken", "{}"), (GOOD[:40] + "\x00" + GOOD[41:], "{}"), ("[]", "{}"), ("null", "{}"), ("7", "{}"),
    (GOOD, "{broken"), (GOOD, "[]"), (GOOD, '{"sent": 5}'),
    *((json.dumps({**FIELDS, name: worst}), "{}") for name, worst in (
        ("text", 5), ("text", None), ("user", "nobody"), ("user", 5), ("conversation", "telegram:x:0:0"),
        ("conversation", "telegram:12:0:0"), ("update_id", "another"), ("chat_kind", "party"), ("vouched", "god"),
        ("addressed", []), ("origin", []), ("origin", {"a": 1}), ("edits", "yes"), ("visibility", "nobody"),
    )),
    *((json.dumps({key: value for key, value in FIELDS.items() if key != gone}), "{}") for gone in
      ("text", "user", "conversation", "update_id")),
]  # fmt: skip


async def damage(store: Store, tmp_path: Path, text: str, marks: str) -> None:
    """Put this in the place of the message u1, as nobody but damage does."""
    if isinstance(store, RedisStore):
        inbox = store._keys.of(HOME, "inbox")
        await store._redis.hset(inbox, mapping={"message u1": f"1 1.0\n{text}", "marks u1": marks})
        return
    with sqlite3.connect(tmp_path / "both.sqlite3") as db:
        db.execute("UPDATE inbox SET message = ?, marks = ? WHERE update_id = 'u1'", (text, marks))


@pytest.fixture(params=["sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("text", "marks"), DAMAGE, ids=range(len(DAMAGE)))
async def test_a_damaged_message_is_set_aside_with_its_reason(
    kind: str, redis_url: str, tmp_path: Path, text: str, marks: str
) -> None:
    store: Store = (
        SqliteStore(tmp_path / "both.sqlite3")
        if kind == "sqlite"
        else RedisStore(redis_url, prefix=f"damage{os.urandom(4).hex()}")
    )
    await store.open()
    for update in ("u1", "u2"):
        await store.accept(Message(update, HOME, ANN, "hi"), 1.0)
    await damage(store, tmp_path, text, marks)
    assert [entry.message.update_id for entry in (await store.claim(HOME, 5)).open] == ["u2"]
    assert await store.open_conversations("telegram") == [HOME]
    (letter,) = await store.dead_letters()
    assert letter.reason.startswith("damaged in the store")
    assert letter.message.update_id == "u1"
    if marks == "{}":
        assert not await store.replay(letter.message)
    assert await store.drop(letter.message)
    assert await store.dead_letters() == []
    await store.forget(ANN)
    await store.close()


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert message_from_json({**FIELDS, "mood": {"good": True}}) == message_from_json(FIELDS)


async def test_a_conversation_that_is_none_holds_up_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "both.sqlite3")
    await store.open()
    for update in ("u1", "u2"):
        await store.accept(Message(update, HOME, ANN, "hi"), 1.0)
    with sqlite3.connect(tmp_path / "both.sqlite3") as db:
        db.execute("UPDATE inbox SET conversation = 'telegram:3:x y:0' WHERE update_id = 'u1'")
    assert await store.open_conversations("telegram") == [HOME]
    assert (await store.backlog()).dead == 1
    await store.close()


async def test_a_damaged_turn_or_answer_costs_no_more_than_itself(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "both.sqlite3")
    await store.open()
    made = [Turn(n, ANN, f"q{n}", "a", float(n), n - 1, f"m{n}") for n in (1, 2, 3)]
    await store.put(StoredConversation(HOME, made, 3))
    message = Message("u1", HOME, ANN, "hi")
    await store.accept(message, 1.0)
    await store.finish(message, StoredAnswer("x", "final", ""))
    with sqlite3.connect(tmp_path / "both.sqlite3") as db:
        db.execute("UPDATE turns SET user = 'nobody', answer = x'00ff' WHERE id = 2")
        db.execute("UPDATE inbox SET answer = '{\"text\": 5}'")
    assert [turn.question for turn in await store.last_turns(HOME, 9)] == ["q1", "q3"]
    assert await store.answer(message) is None
    assert await store.finish(message, StoredAnswer("y", "final", "")) is False
    assert await store.answer(message) == StoredAnswer("y", "final", "")
    await store.close()


def deleted(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


def without_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("happens", [deleted, replaced, without_log])
async def test_a_file_that_is_not_the_opened_one_takes_nothing_more(
    tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    path = tmp_path / "s.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.check()
    happens(path)
    for work in (store.check(), store.accept(Message("u1", HOME, ANN, "hi"), 1.0), store.settings(ANN)):
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            await work
    await store.close()


async def test_a_second_process_on_one_file_is_refused_before_it_takes_anything(tmp_path: Path) -> None:
    first, second = SqliteStore(tmp_path / "s.sqlite3"), SqliteStore(tmp_path / "s.sqlite3")
    await first.open()
    await first.check()
    await second.open()
    for work in (second.check(), second.accept(Message("u1", HOME, ANN, "hi"), 1.0), second.claim(HOME, 5)):
        with pytest.raises(StoreError, match="another glmbot"):
            await work
    assert await second.settings(ANN) == {}, "commands on the terminal work beside the bot"
    await first.close()
    await second.check()
    await second.close()


async def test_a_locked_file_is_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    store._connection._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "s.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.check()
    assert await store.settings(ANN) == {}
    other.execute("ROLLBACK")
    other.close()
    await store.check()
    await store.close()


async def test_a_disk_that_is_full_is_away_and_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    (pages,) = store._connection._db.execute("PRAGMA page_count").fetchone()
    store._connection._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        await store.accept(Message("u1", HOME, ANN, "x" * 1_000_000), 1.0)
    await store.close()


@pytest.mark.parametrize("worst", [b"\x00" * 100_000, "soon", float("inf"), None])
async def test_a_letter_set_aside_at_no_time_is_listed_with_the_others(tmp_path: Path, worst: Any) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    for update in ("u1", "u2"):
        message = Message(update, HOME, ANN, "hi")
        await store.accept(message, 1.0)
        await store.set_aside(message, "refused", 2.0)
    with sqlite3.connect(tmp_path / "s.sqlite3") as db:
        db.execute("UPDATE inbox SET dead_at = ? WHERE update_id = 'u1'", (worst,))
    found = {letter.message.update_id: letter.at for letter in await store.dead_letters()}
    assert found == {"u1": 0.0, "u2": 2.0}
    await store.close()


async def test_a_turn_that_follows_no_number_is_left_out_of_a_backup(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    for update in ("u1", "u2"):
        message = Message(update, HOME, ANN, "hi", ref=update)
        await store.accept(message, 1.0)
        await store.finish(message, StoredAnswer("a", "final", ""), question=update, at=1.0, ref=update)
    with sqlite3.connect(tmp_path / "s.sqlite3") as db:
        db.execute("UPDATE turns SET parent = ? WHERE ref = 'u1'", (float("-inf"),))
    (whole,) = [found async for found in store.everything()]
    assert [turn.question for turn in whole.turns] == ["u2"]
    await store.close()


async def test_bytes_that_are_no_text_are_damage_in_one_row_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    other = ConversationKey("telegram", "12")
    await store.accept(Message("u1", HOME, ANN, "hi"), 1.0)
    await store.accept(Message("u2", other, UserKey("telegram", "12"), "hi"), 2.0)
    with sqlite3.connect(tmp_path / "s.sqlite3") as db:
        db.execute("UPDATE inbox SET message = CAST(x'ff7b80' AS TEXT) WHERE update_id = 'u1'")
    assert [entry.message.update_id for entry in await store.unfinished("telegram")] == ["u2"]
    (letter,) = await store.dead_letters()
    assert "damaged" in letter.reason
    await store.close()


@pytest.mark.parametrize("seed", range(12))
async def test_a_file_with_flipped_bits_is_read_or_refused_with_what_to_do(tmp_path: Path, seed: int) -> None:
    path, lots = tmp_path / "s.sqlite3", random.Random(seed)
    store = SqliteStore(path)
    await store.open()
    for number in range(20):
        await store.accept(Message(f"u{number}", HOME, ANN, "hi " * 50), 1.0)
    await store.close()
    data = bytearray(path.read_bytes())
    for _ in range((1, 20, 200, 3000)[seed % 4]):
        data[lots.randrange(100, len(data))] ^= 1 << lots.randrange(8)
    path.write_bytes(data)
    store = SqliteStore(path)
    steps: list[Callable[[], Awaitable[Any]]] = [
        store.open, store.check, lambda: store.unfinished("telegram"), lambda: store.claim(HOME, 5),
        lambda: store.tidy(1e9), lambda: store.forget(ANN),
    ]  # fmt: skip
    refusals: list[str] = []
    for step in steps:
        try:
            await step()
        except StoreError as error:
            refusals.append(str(error))
        if refusals and step == store.open:
            break
    await store.close()
    assert all(str(path) in words and "glmbot restore" in words for words in refusals), refusals


async def test_a_disk_with_room_for_little_is_full_until_an_answer_finds_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    await store.check()
    db = store._connection._db
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(StoreUnavailable, match="full"):
        await store.accept(Message("u1", HOME, ANN, "x" * 200_000), 1.0)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="full"):
            await store.check()
    db.execute("PRAGMA max_page_count = 1000000")
    await store.check()
    assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'trial'").fetchone() is None
    await store.close()


async def test_several_who_ask_after_a_failed_write_hinder_each_other_in_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "asked.sqlite3")
    await store.open()
    store._connection._in_doubt = True
    await asyncio.gather(*(store.check() for _ in range(4)))
    await store.close()


async def test_only_its_owner_reads_a_file_of_the_store(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        path = tmp_path / "new" / "folder" / "s.sqlite3"
        store = SqliteStore(path)
        await store.open()
        await store.check()
        await store.accept(Message("u1", HOME, ANN, "hi"), 1.0)
        modes = {each.name: oct(each.stat().st_mode & 0o777) for each in path.parent.iterdir()}
        assert set(modes.values()) == {"0o600"}, modes
        assert {oct(each.stat().st_mode & 0o777) for each in (path.parent, path.parent.parent)} == {"0o700"}
        await store.close()
        path.chmod(0o644)
        again = SqliteStore(path)
        await again.open()
        assert path.stat().st_mode & 0o777 == 0o600
        assert await again.warnings() == []
        await again.close()
    finally:
        os.umask(umask)


async def test_a_clock_that_was_put_back_keeps_nobody_waiting_longer_than_an_hour(store: Store) -> None:
    for number in range(3):
        await store.count(f"{number}", {"ann": 3}, 1e9 + 365 * 86400)
    assert await store.count("after", {"ann": 3}, 1e9) == 0
    for number in range(3):
        await store.count(f"later {number}", {"bob": 3}, 1e9 + 1800)
    assert 0 < await store.count("after", {"bob": 3}, 1e9) <= 3600
