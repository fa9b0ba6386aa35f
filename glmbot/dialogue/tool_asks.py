"""Whether a call may be made, asked of a person: kept in the store, so that who presses after a restart is heard.

An ask is answered once, by whom it is for, where it was asked, before its time is over. Whoever waits for it may
be another process than the one that hears of the press.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from glmbot.messages import Message, Role
from glmbot.notes import Book, Note
from glmbot.store.notes import Notes, book_in

__all__ = ["ASKS", "Ask", "Asks", "Outcome", "button_of", "pressed"]

ASKS = "tool_asks"
_POLL_S = 1.0
_LONGEST_ARGUMENTS = 20_000
_LETTERS, _LENGTH = string.ascii_lowercase, 8
# What a button may carry is letters alone, and few: https://core.telegram.org/bots/api#inlinekeyboardbutton
_VERBS: Mapping[str, str] = {"toolyes": "yes", "toolhere": "here", "toolno": "no"}
# Of a question that may be answered in words, too.
_PICK, _TYPE = "toolpick", "tooltype"


class Outcome(StrEnum):
    """What becomes of a press; the names of lines behind "tools."."""

    DONE = "done"
    GONE = "gone"
    NOT_YOURS = "not_yours"
    LATE = "late"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Ask:
    """`conversation`, `chat` and `asker` as `str` of their keys. `of_admins`: they alone answer. `choices`: what a
    tool asks about; a permission has none. `answer`: "yes", "here", "no" or the number of a choice, from 1; "" so
    far. `digest`: of the tool as it was when it was asked.
    """

    id: str
    conversation: str
    chat: str
    thread: str
    asker: str
    tool: str
    question: str
    until: float
    arguments: str = ""
    of_admins: bool = False
    choices: tuple[str, ...] = ()
    answer: str = ""
    digest: str = ""


class Asks:
    def __init__(self, store: Notes, clock: Callable[[], float], tell: Callable[[str], None]) -> None:
        """tell: the other processes, of an answer."""
        self._store = store
        self._book: Book = book_in(store, ASKS)
        self._clock = clock
        self._tell = tell
        self._waiting: dict[str, asyncio.Event] = {}

    async def begin(
        self,
        message: Message,
        tool: str,
        question: str,
        lasts_s: float,
        *,
        arguments: str = "",
        of_admins: bool = False,
        choices: Sequence[str] = (),
        digest: str = "",
    ) -> Ask:
        """Raises StoreError and BookFull."""
        ask = Ask(
            "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)),
            str(message.conversation),
            str(message.chat),
            message.conversation.thread,
            str(message.user),
            tool,
            question,
            self._clock() + lasts_s,
            arguments[:_LONGEST_ARGUMENTS],
            of_admins,
            tuple(choices),
            digest=digest,
        )
        await book_in(self._store, ASKS, message).put(Note(ask.id, json.dumps(asdict(ask)), ask.asker))
        return ask

    async def answer(
        self, message: Message, role: Role | None, ask_id: str, answer: str
    ) -> tuple[Outcome, Ask | None]:
        """Somebody presses, or says the same in words. Raises StoreError."""
        found = await self._get(ask_id)
        if found is None:
            return Outcome.GONE, None
        ask, note = found
        thread = message.conversation.thread
        if (str(message.chat), thread) != (ask.chat, ask.thread):
            # It is none of what was asked there, as far as anybody here learns.
            return Outcome.GONE, None
        theirs = role is Role.ADMIN if ask.of_admins else str(message.user) == ask.asker
        if role is None or not theirs:
            return Outcome.NOT_YOURS, None
        if ask.answer:
            return Outcome.AGAIN, None
        if not ask.until - self._clock() > 0:
            return Outcome.LATE, None
        if not _fits(ask, answer):
            return Outcome.GONE, None
        answered = replace(ask, answer=answer)
        if (
            await self._book.put(Note(note.name, json.dumps(asdict(answered)), note.user, note.version))
            is None
        ):
            return Outcome.AGAIN, None
        self.heard(ask.id)
        self._tell(f"asked {ask.id}")
        return Outcome.DONE, answered

    async def shown(self, message: Message, ask_id: str) -> Ask | None:
        """To who is in the same chat."""
        found = await self._get(ask_id)
        if found is None or found[0].chat != str(message.chat):
            return None
        return found[0]

    def heard(self, ask_id: str) -> None:
        """It may have been answered."""
        if ask_id in self._waiting:
            self._waiting[ask_id].set()

    async def wait(self, ask_id: str) -> str:
        """The answer; "" once its time is over, or it was forgotten with its person. Raises StoreError."""
        event = self._waiting.setdefault(ask_id, asyncio.Event())
        try:
            while True:
                event.clear()
                found = await self._get(ask_id)
                if found is None:
                    return ""
                ask, _ = found
                left = ask.until - self._clock()
                if ask.answer or left <= 0:
                    return ask.answer
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(_POLL_S, left))
        finally:
            self._waiting.pop(ask_id, None)

    async def end(self, ask_id: str) -> None:
        """Nobody waits for it any more."""
        found = await self._get(ask_id)
        if found is not None:
            await self._book.remove(found[1])

    async def _get(self, ask_id: str) -> tuple[Ask, Note] | None:
        if not _is_id(ask_id):
            return None
        note = await self._book.get(ask_id)
        if note is None:
            return None
        try:
            fields: dict[str, Any] = json.loads(note.text)
            fields["choices"] = tuple(fields["choices"])
            return Ask(**fields), note
        except (ValueError, TypeError, KeyError):
            return None


def button_of(ask: Ask, answer: str, typed: bool = False) -> str:
    """The command of a button, which `pressed` reads. typed: what is asked may be answered in words, too."""
    verb = next((verb for verb, said in _VERBS.items() if said == answer), "")
    if verb:
        return f"{verb}{ask.id}"
    return f"{_TYPE if typed else _PICK}{_LETTERS[int(answer) - 1]}{ask.id}"


def pressed(command: str) -> tuple[str, str] | None:
    """The id and the answer of a button of ours; None for any other command."""
    head, ask_id = command[:-_LENGTH], command[-_LENGTH:]
    if not _is_id(ask_id):
        return None
    if head in _VERBS:
        return ask_id, _VERBS[head]
    if head[:-1] in (_PICK, _TYPE) and head[-1] in _LETTERS:
        return ask_id, str(_LETTERS.index(head[-1]) + 1)
    return None


def _fits(ask: Ask, answer: str) -> bool:
    if not ask.choices:
        return answer in _VERBS.values()
    return answer == "no" or answer in [str(number) for number, _ in enumerate(ask.choices, 1)]


def _is_id(text: str) -> bool:
    return len(text) == _LENGTH and all(letter in _LETTERS for letter in text)
