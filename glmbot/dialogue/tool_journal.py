"""What an answer has called so far, in the store: a call is written there before it is made, and what came of it
after. So the next process goes on with it, and what acts is never done twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256

from glmbot.content import Content, Part, Thought, ToolResult
from glmbot.errors import BookFull, StoreUnavailable
from glmbot.messages import Message
from glmbot.notes import LONGEST_NOTE, Book, Note
from glmbot.store.content_json import parts_from_json, parts_to_json
from glmbot.store.notes import Notes, book_in

__all__ = ["CALLS", "Journal", "Open", "State"]

CALLS = "tool_calls"
_LEAST_KEPT = 200
_LEFT_OUT = "\n[The rest is left out.]"


class State(StrEnum):
    WRITTEN = "written"
    """By the model, and nothing else has become of it."""
    ASKED = "asked"
    ALLOWED = "allowed"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Open:
    """A call that nothing has come of yet. `ask`: the id of what a person was asked. `digest`: of the tool that
    was allowed."""

    state: State
    ask: str = ""
    digest: str = ""


@dataclass(slots=True)
class Journal:
    """Of one answer. `said`: see `glmbot.dialogue.exchange`; `open`: those of its calls without a result."""

    said: Content = ()
    open: Mapping[str, Open] = field(default_factory=dict[str, Open])
    rounds: int = 0
    _book: Book | None = None
    _note: Note | None = None
    _at: float = 0.0

    @classmethod
    async def of(cls, store: Notes, message: Message, *, clock: Callable[[], float]) -> Journal:
        """As an earlier process left it, or a new one, of which the store knows nothing yet. Raises StoreError."""
        book = book_in(store, CALLS, message)
        name = sha256(f"{message.conversation} {message.update_id}".encode()).hexdigest()
        note = await book.get(name)
        found = _read(note)
        journal = found if found is not None else cls()
        journal._book, journal._at = book, clock()
        journal._note = note or Note(name, "-", str(message.user))
        return journal

    @property
    def begun(self) -> bool:
        return self._note is not None and self._note.version > 0

    async def write(self, said: Content, opened: Mapping[str, Open], rounds: int) -> bool:
        """False where another process has written there since: it answers by now. Raises StoreError, MessageGone
        among it, and where too many are under way StoreUnavailable."""
        if self._book is None or self._note is None:
            raise RuntimeError("a journal is that of a message")
        text = _written(self._at, said, opened, rounds)
        try:
            note = await self._book.put(Note(self._note.name, text, self._note.user, self._note.version))
        except BookFull as error:
            raise StoreUnavailable(str(error)) from error
        if note is None:
            return False
        self._note, self.said, self.open, self.rounds = note, said, dict(opened), rounds
        return True

    async def end(self) -> None:
        """The answer is recorded. Raises StoreError."""
        if self._book is not None and self._note is not None and self.begun:
            await self._book.remove(self._note)


def _written(at: float, said: Content, opened: Mapping[str, Open], rounds: int) -> str:
    """Where it is too long for a note, what came of calls is cut: the models that are told it read less still."""
    longest = LONGEST_NOTE
    while True:
        parts = parts_to_json((), said)
        fields = {
            "at": at,
            "said": json.loads(parts) if parts else None,
            "open": {call: [str(each.state), each.ask, each.digest] for call, each in opened.items()},
            "rounds": rounds,
        }
        text = json.dumps(fields, ensure_ascii=False)
        if len(text) <= LONGEST_NOTE or longest <= _LEAST_KEPT:
            return text
        longest = max(_LEAST_KEPT, longest // 2)
        said = tuple(_cut(part, longest) for part in said)


def _cut(part: Part, longest: int) -> Part:
    if not isinstance(part, ToolResult | Thought) or len(part.text) <= longest:
        return part
    return replace(part, text=part.text[: longest - len(_LEFT_OUT)].removesuffix(_LEFT_OUT) + _LEFT_OUT)


def _read(note: Note | None) -> Journal | None:
    """None for what is damaged: the answer begins anew then, and as another one."""
    if note is None:
        return None
    try:
        found = json.loads(note.text)
        parts = found["said"]
        said = parts_from_json("" if parts is None else json.dumps(parts))[1]
        opened = {call: Open(State(state), *more) for call, (state, *more) in found["open"].items()}
        return Journal(said, opened, int(found["rounds"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
