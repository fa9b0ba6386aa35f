"""Histories and settings as one file, from any store and into any store.

A gzip of JSON lines: a header, one line a conversation with all its branches, one line for each owner's settings,
and an end that counts them, so that a file that was cut short is known by it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from glmbot.errors import BackupError
from glmbot.messages import ChatKey, ConversationKey, UserKey
from glmbot.store.base import Store, StoredConversation, Turn, owner_from

__all__ = ["Restored", "back_up", "restore"]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Restored:
    """Conversations that were there already are left as they are, and counted as `kept`."""

    conversations: int
    kept: int
    settings: int


async def back_up(store: Store, path: Path) -> int:
    """Write everything to `path`, which appears only when it is whole. Returns the number of conversations.

    Raises StoreError, and BackupError when the file can't be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    conversations = lines = 0
    try:
        unfinished.touch(mode=0o600)
        with gzip.open(unfinished, "wt", encoding="utf-8") as file:

            def write(line: Mapping[str, Any]) -> None:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

            write({"glmbot": "backup", "version": _VERSION})
            async for stored in store.everything():
                write(_conversation_line(stored))
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


async def restore(store: Store, path: Path) -> Restored:
    """Read all of the file before anything is written. Raises StoreError, and BackupError with file and line."""
    lines = list(_read(path))
    conversations = kept = settings = 0
    for line in lines:
        if isinstance(line, StoredConversation):
            if await store.put(line):
                conversations += 1
            else:
                kept += 1
            continue
        for name, value in line.settings.items():
            await store.set_setting(line.owner, name, value)
        settings += 1
    return Restored(conversations, kept, settings)


@dataclass(frozen=True, slots=True)
class _Settings:
    owner: UserKey | ChatKey
    settings: Mapping[str, str]


def _conversation_line(stored: StoredConversation) -> dict[str, Any]:
    turns = [{**asdict(turn), "user": str(turn.user)} for turn in stored.turns]
    return {"conversation": str(stored.conversation), "head": stored.head, "turns": turns}


def _read(path: Path) -> Iterator[StoredConversation | _Settings]:
    number, whole = 0, False
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                line = cast(dict[str, Any], json.loads(text))
                if number == 1:
                    if line.get("glmbot") != "backup" or line.get("version") != _VERSION:
                        raise BackupError(f"{path}: is no backup that this version of glmbot wrote")
                elif "end" in line:
                    if line["end"] != number - 2:
                        raise BackupError(f"{path}: lines are missing; nothing was restored")
                    whole = True
                elif "owner" in line:
                    yield _Settings(owner_from(line["owner"]), dict(line["settings"]))
                else:
                    yield _conversation(line)
    except BackupError:
        raise
    except FileNotFoundError:
        raise BackupError(f"{path}: there is no such file") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{path}, line {number + 1}: {error}; nothing was restored") from error
    if not whole:
        raise BackupError(f"{path}: ends in the middle; nothing was restored")


def _conversation(line: Mapping[str, Any]) -> StoredConversation:
    written: list[dict[str, Any]] = line["turns"]
    for fields in written:
        fields["user"] = UserKey.parse(fields["user"])
    turns = [Turn(**fields) for fields in written]
    return StoredConversation(ConversationKey.parse(line["conversation"]), turns, int(line["head"]))
