"""Fitting a conversation into a context: pure, exact, whole turns only, and no more work than there is room.

Each engine says what a prompt is and how it is counted: see `Measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

from glmbot.content import Content, ToolResult, length_of, parts_of
from glmbot.engine.base import Conversation, PastExchange
from glmbot.engine.exchanges import with_results_cut
from glmbot.tools import Choice, ToolDescription

__all__ = ["Draft", "Fitted", "Measure", "fit", "longest_text"]

_P = TypeVar("_P")

_CUT = "\n…\n"
# No tokenizer in use packs more characters than this into one token; it bounds the work on a huge text.
_MOST_CHARACTERS_PER_TOKEN = 128
# Attempts at cutting a question exactly, after which each shortens it by twice as much as the one before.
_EXACT_CUTS = 8
# No description of tools needs fewer tokens than this for its characters.
_MOST_CHARACTERS_PER_TOKEN_OF_TOOLS = 16
# How closely the longest results are looked for that fit.
_RESULT_CUTS = 12


@dataclass(frozen=True, slots=True)
class Draft:
    """What a prompt is to say: `tools` first or wherever the model wants them, `question` and what has been called
    for it last."""

    system: str
    past: Sequence[PastExchange]
    question: str
    said: Content = ()
    tools: Sequence[ToolDescription] = ()

    @property
    def characters(self) -> int:
        past = sum(each.characters for each in self.past)
        return len(self.system) + past + len(self.question) + length_of(self.said)


class Measure(Protocol[_P]):
    """How an engine writes a prompt and counts it. A unit is what it counts: a token, or a character."""

    def prompt(self, draft: Draft) -> _P:
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
    tool_tokens: int = 0
    tools_dropped: int = 0


def fit(measure: Measure[_P], conversation: Conversation, room: int) -> Fitted[_P]:
    """Build the longest prompt of at most `room` units, template included.

    The oldest whole turns go first, also above the conversation's limit; then results of calls are cut, and at
    last the question: by units at character borders, its head and tail kept. Of a begun answer the end stands
    behind the question, in at most half of the room, and no more of it is given to the descriptions of tools.
    Raises ValueError when not even an empty question fits, that is, when the system prompt is too long for the
    room.
    """
    if conversation.begun:
        begun = measure.units_of_begun(conversation.begun[-longest_text(room) :])[-(room // 2) :]
        fitted = fit(measure, replace(conversation, begun=""), room - len(begun))
        return replace(fitted, size=fitted.size + len(begun), begun=begun)
    bound = longest_text(room)
    if len(conversation.system) > bound:
        raise ValueError(
            f"the system prompt has {len(conversation.system)} characters, and the budget is {room} tokens"
        )
    tools = conversation.offer.tools
    taken = _size_of_tools(measure, conversation.system, tools, room) if tools else 0
    if tools and taken is None:
        untold = replace(
            conversation, offer=replace(conversation.offer, tools=(), choice=Choice.AUTO, name="")
        )
        return replace(fit(measure, untold, room), tools_dropped=len(tools))
    past = conversation.past
    limit = len(past) if conversation.turn_limit is None else conversation.turn_limit
    whole = Draft(conversation.system, (), conversation.question, conversation.said, tools)
    if whole.characters <= 3 * bound:
        recent = _within(past[max(0, len(past) - limit) :], bound - whole.characters)
        found = _most_turns(measure, replace(whole, past=recent), room)
        if found is not None:
            prompt, kept = found
            return Fitted(
                prompt,
                measure.size(prompt),
                kept,
                len(past) - kept,
                question_cut=False,
                tool_tokens=taken or 0,
            )
    prompt, cut = _cut(measure, whole, room)
    return Fitted(prompt, measure.size(prompt), 0, len(past), question_cut=cut, tool_tokens=taken or 0)


def longest_text(room: int) -> int:
    """Characters that may fit into so many units; what is longer needs no counting."""
    return room * _MOST_CHARACTERS_PER_TOKEN


def _size_of_tools(
    measure: Measure[_P], system: str, tools: Sequence[ToolDescription], room: int
) -> int | None:
    """None where they would take more than half of the room, or leave too little of it."""
    characters = sum(len(tool.description) + len(str(tool.parameters)) for tool in tools)
    if characters > _MOST_CHARACTERS_PER_TOKEN_OF_TOOLS * room:
        return None
    without = Draft(system, (), "")
    told = measure.size(measure.prompt(replace(without, tools=tools)))
    size = told - measure.size(measure.prompt(without))
    return size if size <= room // 2 and told <= room - room // 8 else None


def _within(past: Sequence[PastExchange], characters: int) -> Sequence[PastExchange]:
    """The newest exchanges that have no more characters together."""
    kept = 0
    for size in accumulate(each.characters for each in reversed(past)):
        if size > characters:
            break
        kept += 1
    return past[len(past) - kept :]


def _most_turns(measure: Measure[_P], draft: Draft, room: int) -> tuple[_P, int] | None:
    """The longest prompt with the newest turns and how many they are; None when the question alone is too long.

    Each turn makes a prompt longer, so the number is found by doubling and then halving: what is encoded is never
    much more than what fits.
    """
    turns = draft.past

    def write(kept: int) -> _P:
        return measure.prompt(replace(draft, past=turns[len(turns) - kept :]))

    # Mostly all of them fit, and then this is the only prompt that is built.
    if (
        len(turns) <= room
        and draft.characters <= 4 * room
        and measure.size(prompt := write(len(turns))) <= room
    ):
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


def _cut(measure: Measure[_P], draft: Draft, room: int) -> tuple[_P, bool]:
    """Without any past: results cut to one length, and whether the question was cut, too."""
    bound = longest_text(room)
    question = draft.question
    if len(question) > 2 * bound:
        question = question[:bound] + _CUT + question[-bound:]
    draft = replace(draft, question=question)
    if not parts_of(draft.said, ToolResult):
        return _cut_question(measure, draft, room), True
    best: _P | None = None
    fits, too_many = 0, room
    for _ in range(_RESULT_CUTS):
        tried = (fits + too_many) // 2
        if tried == fits:
            break
        prompt = measure.prompt(replace(draft, said=_shortened(measure, draft.said, tried)))
        if measure.size(prompt) <= room:
            best, fits = prompt, tried
        else:
            too_many = tried
    if best is not None:
        return best, False
    return _cut_question(measure, replace(draft, said=_shortened(measure, draft.said, 0)), room), True


def _shortened(measure: Measure[_P], said: Content, most: int) -> Content:
    """Each result in at most so many units and the sign of the cut."""

    def shorten(text: str) -> str:
        near = longest_text(most)
        units = measure.units(
            text if len(text) <= 2 * near else text[:near] + _CUT + text[len(text) - near :]
        )
        return text if len(units) <= most and len(text) <= 2 * near else _middle_out(measure, units, most)

    return with_results_cut(said, shorten)


def _middle_out(measure: Measure[_P], units: Sequence[Any], left: int) -> str:
    head, tail = (left + 1) // 2, left // 2
    return (
        _at_character(measure.read(units[:head]), end=True)
        + _CUT
        + _at_character(measure.read(units[len(units) - tail :]), end=False)
    )


def _cut_question(measure: Measure[_P], draft: Draft, room: int) -> _P:
    overhead = measure.size(measure.prompt(replace(draft, question="")))
    if overhead > room:
        raise ValueError(
            f"the system prompt takes {overhead} tokens with its template, and {room} are left for a prompt"
        )
    units = measure.units(draft.question)
    left = min(len(units), room - overhead)
    attempts = 0
    # Pieces of text encode differently side by side than in the whole, so the last units are tried for.
    while left > 0:
        prompt = measure.prompt(replace(draft, question=_middle_out(measure, units, left)))
        if (size := measure.size(prompt)) <= room:
            return prompt
        attempts += 1
        left -= max(1, size - room, 2 ** (attempts - _EXACT_CUTS) if attempts > _EXACT_CUTS else 0)
    return measure.prompt(replace(draft, question=""))


def _at_character(text: str, *, end: bool) -> str:
    """Drop what a cut in the middle of a character left behind."""
    return text.rstrip("\ufffd") if end else text.lstrip("\ufffd")
