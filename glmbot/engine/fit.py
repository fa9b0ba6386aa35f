"""Fitting a conversation into a context: pure, exact, whole turns only, and no more work than there is room.

Each engine says what a prompt is and how it is counted: see `Measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

from glmbot.engine.base import ChatTurn, Conversation

__all__ = ["Fitted", "Measure", "fit", "longest_text"]

_P = TypeVar("_P")

_CUT = "\n…\n"
# No tokenizer in use packs more characters than this into one token; it bounds the work on a huge text.
_MOST_CHARACTERS_PER_TOKEN = 128
# Attempts at cutting a question exactly, after which each shortens it by twice as much as the one before.
_EXACT_CUTS = 8


class Measure(Protocol[_P]):
    """How an engine writes a prompt and counts it. A unit is what it counts: a token, or a character."""

    def prompt(self, system: str, turns: Sequence[ChatTurn], question: str) -> _P:
        """The whole prompt, ending where the answer begins."""
        ...

    def size(self, prompt: _P) -> int:
        """In units."""
        ...

    def units(self, text: str) -> Sequence[Any]:
        """Those of a text alone; a slice of them can be read back."""
        ...

    def units_of_begun(self, answer: str) -> Sequence[Any]:
        """Those of the beginning of an answer, to stand right behind the prompt."""
        ...

    def read(self, units: Sequence[Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class Fitted(Generic[_P]):
    """`size` counts `prompt` and the units of `begun`, which stand behind it, and is never more than the room.
    `turns` of the history are in it, `dropped` are not."""

    prompt: _P
    size: int
    turns: int
    dropped: int
    question_cut: bool
    begun: Sequence[Any] = ()


def fit(measure: Measure[_P], conversation: Conversation, room: int) -> Fitted[_P]:
    """Build the longest prompt of at most `room` units, template included.

    The oldest whole turns go first, also above the conversation's limit. When the question alone is too long it
    is cut by units at character borders, its head and tail kept. Of a begun answer the end stands behind the
    question, in at most half of the room. Raises ValueError when not even an empty question fits, that is, when
    the system prompt is too long for the room.
    """
    if conversation.begun:
        begun = measure.units_of_begun(conversation.begun[-longest_text(room) :])[-(room // 2) :]
        fitted = fit(measure, replace(conversation, begun=""), room - len(begun))
        return replace(fitted, size=fitted.size + len(begun), begun=begun)
    system, turns, question = conversation.system, conversation.turns, conversation.question
    limit = len(turns) if conversation.turn_limit is None else conversation.turn_limit
    bound = longest_text(room)
    if len(system) > bound:
        raise ValueError(f"the system prompt has {len(system)} characters, and the budget is {room} tokens")
    if len(question) <= 2 * bound:
        recent = _within(turns[max(0, len(turns) - limit) :], bound - len(system) - len(question))
        found = _most_turns(measure, system, recent, question, room)
        if found is not None:
            prompt, kept = found
            return Fitted(prompt, measure.size(prompt), kept, len(turns) - kept, question_cut=False)
    shortened = question if len(question) <= 2 * bound else question[:bound] + _CUT + question[-bound:]
    prompt = _cut_question(measure, system, shortened, room)
    return Fitted(prompt, measure.size(prompt), 0, len(turns), question_cut=True)


def longest_text(room: int) -> int:
    """Characters that may fit into so many units; what is longer needs no counting."""
    return room * _MOST_CHARACTERS_PER_TOKEN


def _within(turns: Sequence[ChatTurn], characters: int) -> Sequence[ChatTurn]:
    """The newest turns that have no more characters together."""
    sizes = accumulate(len(turn.question) + len(turn.answer) for turn in reversed(turns))
    kept = 0
    for size in sizes:
        if size > characters:
            break
        kept += 1
    return turns[len(turns) - kept :]


def _most_turns(
    measure: Measure[_P], system: str, turns: Sequence[ChatTurn], question: str, room: int
) -> tuple[_P, int] | None:
    """The longest prompt with the newest turns and how many they are; None when the question alone is too long.

    Each turn makes a prompt longer, so the number is found by doubling and then halving: what is encoded is never
    much more than what fits.
    """

    def write(kept: int) -> _P:
        return measure.prompt(system, turns[len(turns) - kept :], question)

    # Mostly all of them fit, and then this is the only prompt that is built.
    characters = len(system) + len(question) + sum(len(turn.question) + len(turn.answer) for turn in turns)
    if len(turns) <= room and characters <= 4 * room and measure.size(prompt := write(len(turns))) <= room:
        return prompt, len(turns)
    best = write(0)
    if measure.size(best) > room:
        return None
    fits, too_many = 0, len(turns) + 1
    while fits + 1 < too_many:
        doubled = max(1, 2 * fits)
        tried = doubled if doubled < too_many else (fits + too_many) // 2
        prompt = write(tried)
        if measure.size(prompt) <= room:
            best, fits = prompt, tried
        else:
            too_many = tried
    return best, fits


def _cut_question(measure: Measure[_P], system: str, question: str, room: int) -> _P:
    overhead = measure.size(measure.prompt(system, (), ""))
    if overhead > room:
        raise ValueError(
            f"the system prompt takes {overhead} tokens with its template, and {room} are left for a prompt"
        )
    units = measure.units(question)
    left = min(len(units), room - overhead)
    attempts = 0
    # Pieces of text encode differently side by side than in the whole, so the last units are tried for.
    while left > 0:
        head, tail = (left + 1) // 2, left // 2
        cut = (
            _at_character(measure.read(units[:head]), end=True)
            + _CUT
            + _at_character(measure.read(units[len(units) - tail :]), end=False)
        )
        prompt = measure.prompt(system, (), cut)
        if (size := measure.size(prompt)) <= room:
            return prompt
        attempts += 1
        left -= max(1, size - room, 2 ** (attempts - _EXACT_CUTS) if attempts > _EXACT_CUTS else 0)
    return measure.prompt(system, (), "")


def _at_character(text: str, *, end: bool) -> str:
    """Drop what a cut in the middle of a character left behind."""
    return text.rstrip("\ufffd") if end else text.lstrip("\ufffd")
