"""Histories and settings as one file, from any store and into any store.

A gzip of JSON lines: a header, one line a conversation with all its branches, one line for each owner's settings,
and an end that counts them, so that a file that was cut short is known by it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from glmbot.backup_lines import (
    LINE_BYTES,
    OwnedSettings,
    conversation_line,
    parsed_line,
    parsed_object,
)
from glmbot.errors import BackupError
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Backups, Settings
from glmbot.store.private_chats import owner_now
from glmbot.store.private_files import make_private
from glmbot.store.records import StoredConversation

__all__ = ["Restored", "back_up", "restore"]

# 1 kept the settings of private chats under the chat's number alone.
_VERSION = 2
_READABLE = (1, 2)


class _Kept(Backups, Settings, Protocol):
    """What a backup holds."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Conversations that were there already are left as they are, and counted as `kept`."""

    conversations: int
    kept: int
    settings: int


async def back_up(store: _Kept, path: Path) -> int:
    """Write everything to `path`, which appears only when it is whole, for its owner's eyes alone. Returns the
    number of conversations.

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

            write({"glmbot": "backup", "version": _VERSION})
            async for stored in store.everything():
                write(conversation_line(stored))
                conversations += 1
                lines += 1
            for owner, settings in (await store.all_settings()).items():
                write({"owner": owner, "settings": dict(settings)})
                lines += 1
            write({"end": lines})
        unfinished.replace(path)
    except OSError as error:
        raise BackupError(f"{path}: can't be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return conversations


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
    conversations = kept = settings = 0
    for _, line in _read(path):
        if isinstance(line, StoredConversation):
            if await store.put(line):
                conversations += 1
            else:
                kept += 1
            continue
        owner: UserKey | ChatKey | None = line.owner
        if version == 1 and isinstance(owner, ChatKey):
            owner = owner_now(owner, spoke[owner.platform, owner.id])
        if owner is None:
            continue
        for name, value in line.settings.items():
            await store.set_setting(owner, name, value)
        settings += 1
    return Restored(conversations, kept, settings)


def _read(path: Path) -> Iterator[tuple[int, StoredConversation | OwnedSettings]]:
    """Each line with the file's version. Raises BackupError for a file that glmbot did not write to the end."""
    number = version = 0
    whole = False
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
                    whole = True
                else:
                    found = parsed_line(line)
                    yield version, _rooted(found) if isinstance(found, StoredConversation) else found
    except FileNotFoundError:
        raise BackupError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BackupError(f"{path}, line {number + 1}: {error}; nothing was restored") from error
    except ValueError as error:
        raise BackupError(f"{path}, line {number}: {error}; nothing was restored") from error
    if not whole:
        raise BackupError(f"{path}: ends in the middle; nothing was restored")


def _rooted(stored: StoredConversation) -> StoredConversation:
    """What follows a turn that is not there any more begins the conversation."""
    ids = {turn.id for turn in stored.turns}
    turns = [turn if turn.parent in ids else replace(turn, parent=0) for turn in stored.turns]
    return replace(stored, turns=turns, head=stored.head if stored.head in ids else 0)
