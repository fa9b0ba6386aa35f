"""A reminder, or a question that is to be asked later, and how it is written down as a note.

A note's name begins with the moment when it is due, so that a book, which is in order, has those first that are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind
from glmbot.notes import Note
from glmbot_tools.times import Repeat, next_due

__all__ = ["LONGEST_TEXT", "MOST_TIMES", "Reminder", "due_until", "id_of"]

LONGEST_TEXT = 500
MOST_TIMES = 366
"""That one which repeats is said: what everybody has forgotten ends, too."""
_LONGEST_NAME = 64
_FORM = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Reminder:
    """`begun`: when it is due for the first time. `asks`: its text is a question to the model. `claimed`: since
    when a process is at it. `name`: its person's, as the platform showed it."""

    id: str
    user: UserKey
    conversation: ConversationKey
    kind: ChatKind
    language: str
    zone: ZoneInfo
    text: str
    asks: bool
    due: datetime
    begun: datetime
    repeat: Repeat = Repeat.NEVER
    left: int = 1
    claimed: datetime | None = None
    name: str = ""

    @property
    def whose(self) -> str:
        """For people in a group."""
        shown = "".join(letter if letter.isprintable() else " " for letter in self.name)
        return " ".join(shown.split())[:_LONGEST_NAME] or self.user.id

    @property
    def local(self) -> str:
        return f"{self.due.astimezone(self.zone):%Y-%m-%d %H:%M}"

    def following(self, now: datetime) -> Reminder | None:
        """What is due after this one: of those that were missed meanwhile, none is made up for."""
        due = next_due(self.begun, self.repeat, self.zone, max(now, self.due))
        if due is None or self.left <= 1:
            return None
        return replace(self, due=due, left=self.left - 1, claimed=None)

    def note(self, version: int = 0) -> Note:
        fields: dict[str, Any] = {
            "id": self.id,
            "conversation": str(self.conversation),
            "kind": self.kind.value,
            "language": self.language,
            "zone": self.zone.key,
            "text": self.text,
            "asks": self.asks,
            "due": self.due.isoformat(),
            "begun": self.begun.isoformat(),
            "repeat": self.repeat.value,
            "left": self.left,
        }
        if self.name:
            fields["name"] = self.name[:_LONGEST_NAME]
        if self.claimed is not None:
            fields["claimed"] = self.claimed.isoformat()
        name = f"{self.due:{_FORM}} {self.id}"
        return Note(name, json.dumps(fields, ensure_ascii=False), str(self.user), version)

    @classmethod
    def read(cls, note: Note) -> Reminder:
        """Raises ValueError for what is no reminder."""
        try:
            fields = json.loads(note.text)
            claimed = fields.get("claimed")
            return cls(
                str(fields["id"]),
                UserKey.parse(note.user),
                ConversationKey.parse(fields["conversation"]),
                ChatKind(fields["kind"]),
                str(fields["language"]),
                ZoneInfo(fields["zone"]),
                str(fields["text"]),
                bool(fields["asks"]),
                _moment(fields["due"]),
                _moment(fields["begun"]),
                Repeat(fields["repeat"]),
                int(fields["left"]),
                None if claimed is None else _moment(claimed),
                str(fields.get("name", "")),
            )
        except (KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise ValueError("this note is no reminder") from error


def due_until(now: datetime) -> str:
    """The end of the names of all that are due."""
    return f"{now:{_FORM}} ~"


def id_of(call: str, user: str, conversation: str) -> str:
    """The same for the same call, so that one which is repeated after a crash makes no second reminder."""
    return sha256(f"{call}\n{user}\n{conversation}".encode()).hexdigest()[:8]


def _moment(written: object) -> datetime:
    moment = datetime.fromisoformat(str(written))
    if moment.tzinfo is None or moment.utcoffset() != timedelta(0):
        raise ValueError("a moment is written in UTC")
    return moment.astimezone(UTC)
