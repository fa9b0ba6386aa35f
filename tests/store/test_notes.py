"""Notes of plug-ins: one process writes each, whoever they belong to takes them along, and no book grows for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.backup import back_up, restore
from glmbot.errors import BookFull
from glmbot.keys import UserKey
from glmbot.notes import Note
from glmbot.store import redis_notes, sqlite_notes
from glmbot.store.base import Store
from glmbot.store.notes import book_in
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
