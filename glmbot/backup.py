"""Histories, settings and notes as one file, from any store and into any store.

A gzip of JSON lines: a header, one line a conversation with all its branches, one line for each owner's settings
and for each note of a plug-in, files with their contents in pieces, and an end that counts them, so that what was
cut short is known by it.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol

from glmbot.backup_lines import (
    LINE_BYTES,
    Contents,
    Line,
    OwnedSettings,
    conversation_line,
    file_line,
    note_line,
    parsed_line,
    parsed_object,
    piece_line,
)
from glmbot.errors import BackupError, BlobRefused, BookFull, StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Backups, Settings
from glmbot.store.blobs import PIECE_BYTES, Blobs, read
from glmbot.store.notes import Notes, StoredNote, book_in
from glmbot.store.private_chats import owner_now
from glmbot.store.private_files import make_private
from glmbot.store.records import StoredBlob, StoredConversation

__all__ = ["Restored", "back_up", "restore"]

_log = logging.getLogger(__name__)

# 1 kept the settings of private chats under the chat's number alone. 3 has files, and 4 notes; what has none can
# be read by releases that know none, too.
_VERSION, _WITH_FILES, _WITH_NOTES = 2, 3, 4
_READABLE = (1, 2, 3, 4)
# Of a file, what is not in memory is on the disk for a moment.
_IN_MEMORY = 4 * 2**20


class _Kept(Backups, Blobs, Notes, Settings, Protocol):
    """What a backup holds."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Conversations that were there already are left as they are, with their files, and counted as `kept`.
    `refused`: files that are too large, or that there is no room for."""

    conversations: int
    kept: int
    settings: int
    files: int = 0
    refused: int = 0


async def back_up(store: _Kept, path: Path) -> int:
    """Write everything to `path`, which appears only when it is whole, for its owner's eyes alone. Returns the
    number of conversations. A file that somebody sent and that is damaged in the store is left out, and logged.

    Raises StoreError, and BackupError when the file can't be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    conversations = lines = 0
    try:
        unfinished.unlink(missing_ok=True)
        make_private(unfinished)
        with gzip.open(unfinished, "wt", encoding="utf-8") as file:

            def write(line: Mapping[str, Any]) -> None:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

            async with aclosing(store.blobs()) as found:
                has_files = await anext(found, None) is not None
            async with aclosing(store.all_notes()) as notes:
                has_notes = await anext(notes, None) is not None
            version = _WITH_NOTES if has_notes else _WITH_FILES if has_files else _VERSION
            write({"glmbot": "backup", "version": version})
            async for stored in store.everything():
                write(conversation_line(stored))
                conversations += 1
                lines += 1
            for owner, settings in (await store.all_settings()).items():
                write({"owner": owner, "settings": dict(settings)})
                lines += 1
            async for note in store.all_notes():
                write(note_line(note))
                lines += 1
            with SpooledTemporaryFile(_IN_MEMORY) as content:
                async for line in _file_lines(store, content):
                    write(line)
                    lines += 1
            write({"end": lines})
        unfinished.replace(path)
    except OSError as error:
        raise BackupError(f"{path}: can't be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return conversations


async def _file_lines(store: _Kept, content: IO[bytes]) -> AsyncGenerator[dict[str, Any], None]:
    """content: where each is until all of it was read, since only at its end it shows whether it is whole."""
    written = damaged = ""
    async for stored in store.blobs():
        digest = stored.blob.digest
        if digest == damaged:
            continue
        if digest == written:
            yield file_line(stored)
            continue
        content.seek(0)
        content.truncate()
        try:
            async with aclosing(read(store, stored.conversation, stored.blob)) as pieces:
                async for piece in pieces:
                    content.write(piece)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # The bot may run meanwhile, and who has put a file may delete it; others may still have the same.
            if await store.blob(stored.conversation, digest) is not None:
                damaged = digest
                _log.error("%s; it is left out of the backup", error)
            continue
        written = digest
        yield file_line(stored)
        content.seek(0)
        while piece := content.read(PIECE_BYTES):
            yield piece_line(piece)


async def restore(store: _Kept, path: Path) -> Restored:
    """Look at all of the file before anything is written.

    Raises StoreError, and BackupError with file and line.
    """
    spoke: dict[tuple[str, str], set[tuple[ConversationKey, UserKey]]] = defaultdict(set)
    version = 0
    for version, line in _read(path):
        if isinstance(line, StoredConversation) and version == 1:
            where = (line.conversation.platform, line.conversation.chat)
            spoke[where] |= {(line.conversation, turn.user) for turn in line.turns}
    with SpooledTemporaryFile(_IN_MEMORY) as content:
        return await _restored(_RestoredFiles(store, content), store, path, spoke)


async def _restored(
    files: _RestoredFiles,
    store: _Kept,
    path: Path,
    spoke: Mapping[tuple[str, str], set[tuple[ConversationKey, UserKey]]],
) -> Restored:
    conversations = kept = settings = 0
    for version, line in _read(path):
        await files.take(line)
        if isinstance(line, StoredConversation):
            if await store.put(line):
                conversations += 1
            else:
                kept += 1
                files.left_out.add(line.conversation)
        elif isinstance(line, OwnedSettings):
            owner: UserKey | ChatKey | None = line.owner
            if version == 1 and isinstance(owner, ChatKey):
                owner = owner_now(owner, spoke.get((owner.platform, owner.id), ()))
            if owner is None:
                continue
            for name, value in line.settings.items():
                await store.set_setting(owner, name, value)
            settings += 1
        elif isinstance(line, StoredNote):
            # One that is there already stays.
            with suppress(BookFull):
                await book_in(store, line.book).put(line.note)
    await files.end()
    return Restored(conversations, kept, settings, files.count, files.refused)


class _RestoredFiles:
    """A content is put once for each reference to it. It stands behind the first of them; the others follow."""

    def __init__(self, store: _Kept, content: IO[bytes]) -> None:
        """content: an empty file, where what was read is for a moment."""
        self._store = store
        self._content = content
        self._reference: StoredBlob | None = None
        self.left_out: set[ConversationKey] = set()
        self.count = self.refused = 0

    async def take(self, line: object) -> None:
        """Raises StoreError."""
        if isinstance(line, bytes):
            self._content.write(line)
            return
        before = self._reference
        await self.end()
        if isinstance(line, StoredBlob):
            self._reference = line
            if before is not None and before.blob.digest == line.blob.digest:
                return
        self._content.seek(0)
        self._content.truncate()

    async def end(self) -> None:
        """Raises StoreError."""
        put, self._reference = self._reference, None
        if put is None or put.conversation in self.left_out:
            return
        try:
            await self._store.put_blob(put.conversation, put.user, put.blob, self._pieces())
            self.count += 1
        except BlobRefused as error:
            _log.warning("a file of %s is left out: %s", put.conversation, error)
            self.refused += 1

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        self._content.seek(0)
        while piece := self._content.read(PIECE_BYTES):
            yield piece


def _read(path: Path) -> Iterator[tuple[int, Line]]:
    """Each line with the file's version. Raises BackupError for a file that glmbot did not write to the end."""
    number = version = 0
    whole = False
    contents = Contents()
    try:
        with gzip.open(path, "rb") as file:
            while text := file.readline(LINE_BYTES + 1):
                number += 1
                if len(text) > LINE_BYTES:
                    raise ValueError(f"is longer than {LINE_BYTES // 2**20} MiB")
                line = parsed_object(text.decode())
                if number == 1:
                    version = line.get("version", 0)
                    if line.get("glmbot") != "backup" or version not in _READABLE:
                        raise BackupError(f"{path}: is no backup that this version of glmbot can read")
                elif whole:
                    raise ValueError("stands after the end")
                elif "end" in line:
                    if line["end"] != number - 2:
                        raise BackupError(f"{path}: lines are missing; nothing was restored")
                    contents.end()
                    whole = True
                else:
                    found = parsed_line(line)
                    _follow(contents, found)
                    yield version, _rooted(found) if isinstance(found, StoredConversation) else found
    except FileNotFoundError:
        raise BackupError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BackupError(f"{path}, line {number + 1}: {error}; nothing was restored") from error
    except ValueError as error:
        raise BackupError(f"{path}, line {number}: {error}; nothing was restored") from error
    if not whole:
        raise BackupError(f"{path}: ends in the middle; nothing was restored")


def _follow(contents: Contents, line: object) -> None:
    """Raises ValueError."""
    if isinstance(line, bytes):
        contents.add(line)
    elif isinstance(line, StoredBlob):
        contents.begin(line.blob)
    else:
        contents.close()


def _rooted(stored: StoredConversation) -> StoredConversation:
    """What follows a turn that is not there any more begins the conversation."""
    ids = {turn.id for turn in stored.turns}
    turns = [turn if turn.parent in ids else replace(turn, parent=0) for turn in stored.turns]
    return replace(stored, turns=turns, head=stored.head if stored.head in ids else 0)
