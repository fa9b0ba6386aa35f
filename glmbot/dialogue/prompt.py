"""Fitting a history into the context: pure, exact, whole turns only, and no more work than the budget is large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from glmbot.engine.base import ChatFormat, ChatTurn

__all__ = ["Prompt", "fit", "longest_text"]

_CUT = "\n…\n"
# No tokenizer in use packs more characters than this into one token; it bounds the work on a huge text.
_MOST_CHARACTERS_PER_TOKEN = 128
# Attempts at cutting a question exactly, after which each shortens it by twice as much as the one before.
_EXACT_CUTS = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """`tokens` is never longer than the budget. `turns` of the history are in it, `dropped` are not.

    The last `begun` tokens are the beginning of the answer.
    """

    tokens: Sequence[int]
    budget: int
    turns: int
    dropped: int
    question_cut: bool
    begun: int = 0


def fit(
    chat_format: ChatFormat,
    *,
    system: str,
    turns: Sequence[ChatTurn],
    question: str,
    budget: int,
    turn_limit: int,
    begun: str = "",
) -> Prompt:
    """Build the longest prompt of at most `budget` tokens, template included.

    The oldest whole turns go first, also above `turn_limit`. When the question alone is too long it is cut by
    tokens at character borders, its head and tail kept. Raises ValueError when not even an empty question
    fits, that is, when the system prompt is too long for the budget. `begun` is an answer to go on from: its
    end stands behind the question, in at most half of the budget.
    """
    if begun:
        answer = chat_format.encode_begun(begun[-longest_text(budget) :])[-(budget // 2) :]
        prompt = fit(
            chat_format,
            system=system,
            turns=turns,
            question=question,
            budget=budget - len(answer),
            turn_limit=turn_limit,
        )
        return replace(prompt, tokens=[*prompt.tokens, *answer], budget=budget, begun=len(answer))
    bound = longest_text(budget)
    if len(system) > bound:
        raise ValueError(f"the system prompt has {len(system)} characters, and the budget is {budget} tokens")
    if len(question) <= 2 * bound:
        recent = _within(turns[max(0, len(turns) - turn_limit) :], bound - len(system) - len(question))
        found = _most_turns(chat_format, system, recent, question, budget)
        if found is not None:
            tokens, kept = found
            return Prompt(tokens, budget, kept, len(turns) - kept, question_cut=False)
    shortened = question if len(question) <= 2 * bound else question[:bound] + _CUT + question[-bound:]
    tokens = _cut_question(chat_format, system, shortened, budget)
    return Prompt(tokens, budget, 0, len(turns), question_cut=True)


def longest_text(budget: int) -> int:
    """Characters that may fit into so many tokens; what is longer needs no counting."""
    return budget * _MOST_CHARACTERS_PER_TOKEN


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
    chat_format: ChatFormat, system: str, turns: Sequence[ChatTurn], question: str, budget: int
) -> tuple[Sequence[int], int] | None:
    """The longest prompt with the newest turns and how many they are; None when the question alone is too long.

    Each turn makes a prompt longer, so the number is found by doubling and then halving: what is encoded is never
    much more than what fits.
    """

    def encode(kept: int) -> Sequence[int]:
        return chat_format.encode_chat(system, turns[len(turns) - kept :], question)

    # Mostly all of them fit, and then this is the only prompt that is built.
    characters = len(system) + len(question) + sum(len(turn.question) + len(turn.answer) for turn in turns)
    if len(turns) <= budget and characters <= 4 * budget and len(tokens := encode(len(turns))) <= budget:
        return tokens, len(turns)
    best = encode(0)
    if len(best) > budget:
        return None
    fits, too_many = 0, len(turns) + 1
    while fits + 1 < too_many:
        doubled = max(1, 2 * fits)
        tried = doubled if doubled < too_many else (fits + too_many) // 2
        tokens = encode(tried)
        if len(tokens) <= budget:
            best, fits = tokens, tried
        else:
            too_many = tried
    return best, fits


def _cut_question(chat_format: ChatFormat, system: str, question: str, budget: int) -> list[int]:
    overhead = len(chat_format.encode_chat(system, (), ""))
    if overhead > budget:
        raise ValueError(
            f"the system prompt takes {overhead} tokens with its template, and {budget} are left for a prompt"
        )
    tokens = chat_format.encode_text(question)
    room = min(len(tokens), budget - overhead)
    attempts = 0
    # Pieces of text encode differently side by side than in the whole, so the last tokens are tried for.
    while room > 0:
        head, tail = (room + 1) // 2, room // 2
        cut = (
            _at_character(chat_format.decode(tokens[:head]), end=True)
            + _CUT
            + _at_character(chat_format.decode(tokens[len(tokens) - tail :]), end=False)
        )
        prompt = chat_format.encode_chat(system, (), cut)
        if len(prompt) <= budget:
            return prompt
        attempts += 1
        room -= max(1, len(prompt) - budget, 2 ** (attempts - _EXACT_CUTS) if attempts > _EXACT_CUTS else 0)
    return chat_format.encode_chat(system, (), "")


def _at_character(text: str, *, end: bool) -> str:
    """Drop what a cut in the middle of a character left behind."""
    return text.rstrip("\ufffd") if end else text.lstrip("\ufffd")
