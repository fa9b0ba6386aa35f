"""Notes of plug-ins and tools in the store: see `glmbot.notes`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from glmbot.keys import UserKey
from glmbot.messages import Message
from glmbot.notes import LONGEST_NOTE, Book, Note, check_book, new_version

__all__ = ["NOTES_AT_ONCE", "Notes", "StoredNote", "book_in"]

NOTES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredNote:
    """Raises ValueError for what is no name of a book."""

    book: str
    note: Note

    def __post_init__(self) -> None:
        check_book(self.book)


class Notes(Protocol):
    """Each method but `notes_of` and `all_notes` is one atomic step."""

    async def note(self, book: str, name: str) -> Note | None: ...

    async def put_note(self, book: str, note: Note, version: int, *, asked: Message | None = None) -> bool:
        """Write `note`, where the stored one is of its version, with this one, which is new. No text takes it out.
        False, and nothing changed, where it is of another version. Raises BookFull.

        asked: what it is written for. Raises MessageGone, and leaves nothing, unless that still waits to be
        answered to the end: whoever was forgotten meanwhile waits for nothing. In Redis the note may be seen until
        that is known.
        """
        ...

    async def notes(self, book: str, limit: int, after: str = "", upto: str = "") -> Sequence[Note]:
        """In the order of their names: those behind `after`, up to `upto` unless that is ""."""
        ...

    async def notes_of(self, user: UserKey, book: str = "") -> Sequence[StoredNote]:
        """All of one person; in one book where that is given."""
        ...

    def all_notes(self) -> AsyncGenerator[StoredNote, None]:
        """Of everybody, a page at a time; for backups."""
        ...


class _Book:
    def __init__(self, store: Notes, name: str, asked: Message | None) -> None:
        self._store = store
        self._name = check_book(name)
        self._asked = asked

    async def get(self, name: str) -> Note | None:
        return await self._store.note(self._name, name)

    async def put(self, note: Note) -> Note | None:
        if not 0 < len(note.text) <= LONGEST_NOTE:
            raise ValueError(f"a note says something, and at most {LONGEST_NOTE:,} characters of it")
        version = new_version()
        # What is nobody's goes with nobody.
        asked = self._asked if note.user else None
        done = await self._store.put_note(self._name, note, version, asked=asked)
        return replace(note, version=version) if done else None

    async def remove(self, note: Note) -> bool:
        return bool(note.version) and await self._store.put_note(self._name, replace(note, text=""), 0)

    async def page(self, *, after: str = "", upto: str = "", limit: int = 100) -> Sequence[Note]:
        return await self._store.notes(self._name, max(1, min(limit, NOTES_AT_ONCE)), after, upto)

    async def of(self, user: UserKey) -> Sequence[Note]:
        return [each.note for each in await self._store.notes_of(user, self._name)]


def book_in(store: Notes, name: str, asked: Message | None = None) -> Book:
    """asked: what people's notes are written for here, see `Notes.put_note`. Raises ValueError for what is no name
    of a book."""
    return _Book(store, name, asked)
