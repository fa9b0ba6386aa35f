"""What plug-ins, and the tools of a model, remember between two starts: small notes in books, by name.

    book = bot.book("reminders")
    await book.put(Note("20261127T0900 5", "Tea!", user="telegram:5"))
    for note in await book.page(upto="20261127T0901"):
        if await book.remove(note):        # by one process, however many look
            ...

A note that names a person is theirs: it is in what they export, and goes with them when they want to be forgotten.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glmbot.keys import UserKey

__all__ = ["LONGEST_NOTE", "MOST_NOTES", "Book", "Note", "check_book", "new_version"]

MOST_NOTES = 20_000
"""In one book."""
LONGEST_NOTE = 256_000
"""Characters."""

_BOOK = re.compile(r"[a-z][a-z0-9_]{0,31}")
# They are sorted by their bytes in every store.
_NAME = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")
_LARGEST_VERSION = 2**53


@dataclass(frozen=True, slots=True)
class Note:
    """`version` is what the store had when it was read, and 0 of one that is to be new. `user`: whose it is, as
    `str(UserKey)`; "" for nobody's. Raises ValueError."""

    name: str
    text: str
    user: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a note's name is 1 to 200 letters, digits and signs of ASCII")
        # What was encrypted for the store is longer.
        if len(self.text) > 6 * LONGEST_NOTE or "\0" in self.text:
            raise ValueError(f"a note has at most {LONGEST_NOTE:,} characters, and no NUL")
        if self.user:
            UserKey.parse(self.user)
        if not 0 <= self.version < _LARGEST_VERSION:
            raise ValueError("a note's version is a whole number of at most 53 bits")


class Book(Protocol):
    """One plug-in's notes, in the order of their names. Each method but `page` and `of` is one atomic step over
    all processes. All raise StoreError."""

    async def get(self, name: str) -> Note | None: ...

    async def put(self, note: Note) -> Note | None:
        """Write it where the stored one is still of its version; 0: where there is none. Returns it as it stands
        there now, and None where somebody else was faster. Raises BookFull; MessageGone where it is somebody's,
        and the book was opened for a message that nobody waits for any more: who sent it is forgotten."""
        ...

    async def remove(self, note: Note) -> bool:
        """False where somebody else changed or removed it since."""
        ...

    async def page(self, *, after: str = "", upto: str = "", limit: int = 100) -> Sequence[Note]:
        """Those behind `after`, and up to `upto` where that is given."""
        ...

    async def of(self, user: UserKey) -> Sequence[Note]:
        """All of one person."""
        ...


def check_book(name: str) -> str:
    """Raises ValueError for what is no name of a book."""
    if not _BOOK.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no name of a book: small letters, digits and _, at most 32")
    return name


def new_version() -> int:
    """Never one that was there before, so that a note that was removed and written anew is another one."""
    return 1 + secrets.randbelow(_LARGEST_VERSION - 1)
