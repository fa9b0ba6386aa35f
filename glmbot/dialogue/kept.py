"""What adapters want to know again after a restart, in a book of notes of its own."""

from __future__ import annotations

from glmbot.errors import BookFull, StoreError
from glmbot.notes import Note
from glmbot.store.base import Notes
from glmbot.store.notes import book_in

__all__ = ["keep", "kept"]

_BOOK = "platforms"
# Somebody else writes the same name only while one process takes over from another.
_TRIES = 5


async def kept(store: Notes, name: str) -> str:
    """ "" where nothing was. Raises StoreError."""
    note = await book_in(store, _BOOK).get(name)
    return "" if note is None else note.text


async def keep(store: Notes, name: str, text: str) -> None:
    """Raises StoreError."""
    book = book_in(store, _BOOK)
    for _ in range(_TRIES):
        before = await book.get(name)
        try:
            written = await book.put(Note(name, text, version=0 if before is None else before.version))
        except BookFull as error:
            raise StoreError(str(error)) from error
        if written is not None:
            return
    raise StoreError(f"{name} is being written by another process")
