"""Everything kept of one person, as JSON for that person."""

from __future__ import annotations

import json
from dataclasses import asdict

from glmbot.messages import Attachment, UserKey
from glmbot.store.base import Store

__all__ = ["export_of"]


async def export_of(store: Store, user: UserKey) -> tuple[Attachment, int]:
    """The file, and how many turns are in it. Raises StoreError."""
    exported = await store.export(user)
    content = {
        "user": str(user),
        "settings": dict(await store.settings(user)),
        "conversations": [
            {
                "conversation": str(entry.conversation),
                "turns": [{**asdict(turn), "user": str(turn.user)} for turn in entry.turns],
            }
            for entry in exported
        ],
    }
    file = json.dumps(content, ensure_ascii=False, indent=2).encode()
    turns = sum(len(entry.turns) for entry in exported)
    return Attachment("glmbot-export.json", file, "application/json"), turns
