"""A question to everybody of a chat, with a few answers: values, and what is kept of them. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from glmbot.keys import ChatKey, UserKey

__all__ = ["MOST_OPTIONS", "Poll", "WrongPoll", "poll_of", "poll_place", "poll_read", "vote_place"]

LEAST_OPTIONS, MOST_OPTIONS = 2, 10
LONGEST_QUESTION, LONGEST_OPTION = 300, 80


class WrongPoll(ValueError):
    """`key`: the line that says why."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class Poll:
    """`at` in Unix time. `counts`: what it ended with, None as long as one may vote."""

    id: str
    chat: str
    maker: str
    question: str
    options: tuple[str, ...]
    at: float
    counts: tuple[int, ...] | None = None

    def written(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def poll_of(
    poll_id: str, chat: ChatKey, maker: UserKey, question: str, options: Sequence[str], at: float
) -> Poll:
    """Raises WrongPoll."""
    asked = _line(question, LONGEST_QUESTION)
    given = tuple(filter(None, (_line(each, LONGEST_OPTION) for each in options[: MOST_OPTIONS + 1])))
    if not asked or not LEAST_OPTIONS <= len(given) <= MOST_OPTIONS:
        raise WrongPoll("tools.poll.usage")
    if len({each.casefold() for each in given}) < len(given):
        raise WrongPoll("tools.poll.same")
    return Poll(poll_id, str(chat), str(maker), asked, given, at)


def poll_read(text: str) -> Poll:
    """Raises ValueError, KeyError and TypeError for what is damaged."""
    fields: dict[str, Any] = json.loads(text)
    counts = fields.pop("counts")
    options = tuple(map(str, fields.pop("options")))
    return Poll(**fields, options=options, counts=None if counts is None else tuple(map(int, counts)))


def poll_place(chat: ChatKey, poll_id: str = "") -> str:
    """The name of its note, or what those of a chat begin with: nobody elsewhere learns of it."""
    return f"{sha256(str(chat).encode('utf-8', 'replace')).hexdigest()[:24]} {poll_id}".rstrip()


def vote_place(poll: Poll, voter: UserKey) -> str:
    return f"{poll.id} {sha256(str(voter).encode('utf-8', 'replace')).hexdigest()[:32]}"


def _line(text: str, longest: int) -> str:
    """In one line, without what hides or turns what follows."""
    seen = "".join(
        each
        for each in text[: 4 * longest]
        if each.isspace() or not unicodedata.category(each).startswith("C")
    )
    return " ".join(seen.split())[:longest]
