"""Notes of plug-ins: one process writes each, whoever they belong to takes them along, and no book grows for ever."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.backup import back_up, restore
from glmbot.errors import BookFull, MessageGone
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.notes import Note
from glmbot.store import redis_notes, sqlite_notes
from glmbot.store.base import Store
from glmbot.store.notes import book_in
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore

ANN, BOB = UserKey("telegram", "5"), UserKey("telegram", "6")


async def test_of_two_who_saw_the_same_note_one_changes_it(store: Store) -> None:
    book = book_in(store, "reminders")
    written = await book.put(Note("09:00 tea", "Tea!", str(ANN)))
    assert written is not None
    assert await book.put(Note("09:00 tea", "another")) is None
    seen = await book.get("09:00 tea")
    assert seen is not None
    assert seen == written
    tries = [book.put(Note(seen.name, f"by {who}", seen.user, seen.version)) for who in range(5)]
    changed = [note for note in await asyncio.gather(*tries) if note is not None]
    assert len(changed) == 1
    assert await book.get("09:00 tea") == changed[0]
    assert not await book.remove(seen)
    assert sum(await asyncio.gather(*(book.remove(changed[0]) for _ in range(5)))) == 1
    assert await book.get("09:00 tea") is None
    # A new one of this name is another one.
    again = await book.put(Note("09:00 tea", "Tea!", str(ANN)))
    assert again is not None
    assert not await book.remove(changed[0])


async def test_they_are_read_in_order_and_in_pages(store: Store) -> None:
    book, other = book_in(store, "a"), book_in(store, "b")
    for name in ("3", "1", "2", "10", "B", "a"):
        await book.put(Note(name, name))
    await other.put(Note("1", "of another"))
    assert [note.name for note in await book.page()] == ["1", "10", "2", "3", "B", "a"]
    assert [note.name for note in await book.page(after="10", upto="3")] == ["2", "3"]
    assert [note.name for note in await book.page(limit=2)] == ["1", "10"]


async def test_who_is_forgotten_leaves_no_note(store: Store) -> None:
    book = book_in(store, "reminders")
    for user in (ANN, BOB):
        await book.put(Note(f"of {user.id}", "Tea!", str(user)))
    assert [note.name for note in await book.of(ANN)] == ["of 5"]
    await store.forget(ANN)
    assert [note.name for note in await book.page()] == ["of 6"]
    assert await store.notes_of(ANN) == []


def asked(chat: str) -> Message:
    """By Ann: in private, or in a group."""
    where = ConversationKey("telegram", ANN.id if chat == "private" else "-7")
    return Message(f"in {chat}", where, ANN, "Remind me of tea.")


@pytest.mark.parametrize("chat", ["private", "group"])
async def test_what_is_done_for_who_was_forgotten_meanwhile_leaves_no_note(store: Store, chat: str) -> None:
    message = asked(chat)
    await store.accept(message, 1.0)
    book = book_in(store, "reminders", message)
    before = await book.put(Note("before", "Tea!", str(ANN)))
    assert before is not None
    await store.forget(ANN)
    for late in (Note("after", "Tea!", str(ANN)), Note("before", "Coffee!", str(ANN), before.version)):
        with pytest.raises(MessageGone):
            await book.put(late)
    assert await book.page() == []
    assert not await book.remove(before)
    # What is nobody's stays, and what is asked from now on is another thing.
    assert await book.put(Note("nobody's", "Tea!")) is not None
    again = Message("again", message.conversation, ANN, "Remind me after all.")
    await store.accept(again, 2.0)
    assert await book_in(store, "reminders", again).put(Note("again", "Tea!", str(ANN))) is not None


async def test_a_note_for_a_message_that_was_answered_is_left_as_it_is(store: Store) -> None:
    message = asked("private")
    await store.accept(message, 1.0)
    book = book_in(store, "reminders", message)
    written = await book.put(Note("tea", "Tea!", str(ANN)))
    assert written is not None
    await store.delivered(message)
    with pytest.raises(MessageGone):
        await book.put(Note("tea", "Coffee!", str(ANN), written.version))
    assert await book.of(ANN) == [written]
    assert await book.remove(written)


@pytest.fixture
async def redis(redis_url: str, tmp_path: Path) -> AsyncGenerator[Any]:
    made = RedisStore(redis_url, prefix=f"test-{tmp_path.name}")
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize(
    ("late", "nth"), [("hexists", 1), ("sadd", 1), ("sadd", 2), ("run", 1), ("hexists", 2)]
)
async def test_between_any_two_steps_of_a_note_its_person_may_be_forgotten(
    redis: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, late: str, nth: int, changes: bool
) -> None:
    """By another process, and right before this step."""
    other = RedisStore(redis_url, prefix=redis._keys.prefix)
    message = asked("private")
    await redis.accept(message, 1.0)
    book, note = book_in(redis, "reminders", message), Note("tea", "Tea!", str(ANN))
    if changes:
        written = await book.put(note)
        assert written is not None
        note = written

    target = redis._connection if late == "run" else redis._redis
    step, times = getattr(target, late), itertools.count(1)

    async def forgotten_before(*given: Any) -> Any:
        if next(times) == nth:
            await other.forget(ANN)
        return await step(*given)

    monkeypatch.setattr(target, late, forgotten_before)
    with pytest.raises(MessageGone):
        await book.put(note)
    assert next(times) > nth
    assert await redis.notes("reminders", 10) == []
    left = [key async for key in redis._redis.scan_iter(match=f"{redis._keys.prefix}*")]
    assert [key for key in left if str(ANN) in key] == []
    await other.close()


async def test_who_has_another_number_keeps_them(store: Store) -> None:
    book = book_in(store, "reminders")
    await book.put(Note("tea", "Tea!", str(ANN)))
    await store.move(ANN, BOB, 1.0)
    assert [note.user for note in await book.of(BOB)] == [str(BOB)]
    assert await book.of(ANN) == []
    await store.forget(BOB)
    assert await book.page() == []


async def test_a_backup_holds_them(store: Store, tmp_path: Path) -> None:
    await book_in(store, "reminders").put(Note("tea", "Tea! \U0001f375", str(ANN)))
    await back_up(store, tmp_path / "backup.gz")
    other = SqliteStore(tmp_path / "other.sqlite3")
    await other.open()
    for _ in range(2):
        await restore(other, tmp_path / "backup.gz")
    notes = await book_in(other, "reminders").of(ANN)
    await other.close()
    assert [(note.name, note.text) for note in notes] == [("tea", "Tea! \U0001f375")]


async def test_a_full_book_takes_changes_and_nothing_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_notes, redis_notes):
        monkeypatch.setattr(module, "MOST_NOTES", 2)
    book = book_in(store, "reminders")
    first = await book.put(Note("1", "x"))
    await book.put(Note("2", "x"))
    with pytest.raises(BookFull):
        await book.put(Note("3", "x"))
    assert first is not None
    assert await book.put(Note("1", "y", "", first.version)) is not None
    await book_in(store, "others").put(Note("3", "x"))


@given(st.text(max_size=300))
def test_any_name_is_taken_or_refused(name: str) -> None:
    try:
        note = Note(name, "x")
    except ValueError:
        return
    assert note.name.isascii()
    assert note.name.isprintable()
    assert note.name.strip() == name
