"""Everything kept of one person, as JSON for that person. Written a page at a time, beside everybody's answers."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import asdict
from io import BytesIO
from typing import Protocol

from glmbot.keys import UserKey
from glmbot.messages import Attachment
from glmbot.store.base import Exports, Notes, Settings
from glmbot.store.blobs import Blobs
from glmbot.store.records import ExportedConversation

__all__ = ["PersonalData", "export_of", "whole_export_of"]

# What chat platforms take without asking; what is longer is compressed.
_SENT_AS_IT_IS = 4 * 2**20


class PersonalData(Blobs, Exports, Notes, Settings, Protocol):
    """What is kept of a person."""


async def export_of(store: PersonalData, user: UserKey) -> tuple[Attachment, int]:
    """The file, and how many turns are in it. Raises StoreError."""
    content, turns = await whole_export_of(store, user)
    if len(content) <= _SENT_AS_IT_IS:
        return Attachment("glmbot-export.json", content, "application/json"), turns
    packed = await asyncio.to_thread(gzip.compress, content)
    return Attachment("glmbot-export.json.gz", packed, "application/gzip"), turns


async def whole_export_of(store: PersonalData, user: UserKey) -> tuple[bytes, int]:
    """UTF-8 JSON, and how many turns are in it. Raises StoreError."""
    file, turns, last = BytesIO(), 0, ""
    head = {"user": str(user), "settings": dict(await store.settings(user))}
    file.write(json.dumps(head, ensure_ascii=False, indent=2)[:-2].encode() + b',\n  "conversations": [')
    async for page in store.export_pages(user):
        name = str(page.conversation)
        if name != last:
            begin = (
                ("\n    ]}," if last else "") + '\n    {"conversation": ' + json.dumps(name) + ', "turns": ['
            )
            file.write(begin.encode())
        lines = await asyncio.to_thread(_lines, page)
        file.write((b"\n      " if name != last else b",\n      ") + lines)
        turns, last = turns + len(page.turns), name
    file.write(b"\n    ]}\n  ]" if last else b"]")
    if notes := await store.notes_of(user):
        kept = [{"book": each.book, "name": each.note.name, "text": each.note.text} for each in notes]
        file.write(b',\n  "notes": ' + json.dumps(kept, ensure_ascii=False).encode())
    first = True
    async for stored in store.blobs(user):
        # What they are called; their contents are as large as they are.
        line = json.dumps(
            {"conversation": str(stored.conversation), **asdict(stored.blob)}, ensure_ascii=False
        )
        file.write((b',\n  "files": [\n    ' if first else b",\n    ") + line.encode())
        first = False
    file.write(b"\n}" if first else b"\n  ]\n}")
    return file.getvalue(), turns


def _lines(page: ExportedConversation) -> bytes:
    turns = ({**asdict(turn), "user": str(turn.user)} for turn in page.turns)
    turns = ({name: value for name, value in turn.items() if value or name != "parts"} for turn in turns)
    return ",\n      ".join(json.dumps(turn, ensure_ascii=False) for turn in turns).encode()
