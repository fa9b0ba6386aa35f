"""Fitting a history into the context: pure, exact, whole turns only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glmbot.engine.base import ChatFormat, ChatTurn

__all__ = ["Prompt", "fit"]

_CUT = "\n…\n"
# No tokenizer in use packs more characters than this into one token; it bounds the work on a huge text.
_MOST_CHARACTERS_PER_TOKEN = 128


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
        answer = chat_format.encode_begun(begun)[-(budget // 2) :]
        prompt = fit(
            chat_format,
            system=system,
            turns=turns,
            question=question,
            budget=budget - len(answer),
            turn_limit=turn_limit,
        )
        return replace(prompt, tokens=[*prompt.tokens, *answer], budget=budget, begun=len(answer))
    bound = budget * _MOST_CHARACTERS_PER_TOKEN
    shortened = question if len(question) <= 2 * bound else question[:bound] + _CUT + question[-bound:]
    if shortened is question:
        most = min(len(turns), turn_limit)
        for kept in range(most, -1, -1):
            recent = turns[len(turns) - kept :]
            tokens = chat_format.encode_chat(system, recent, question)
            if len(tokens) <= budget:
                return Prompt(tokens, budget, kept, len(turns) - kept, question_cut=False)
    tokens = _cut_question(chat_format, system, shortened, budget)
    return Prompt(tokens, budget, 0, len(turns), question_cut=True)


def _cut_question(chat_format: ChatFormat, system: str, question: str, budget: int) -> list[int]:
    overhead = len(chat_format.encode_chat(system, (), ""))
    if overhead > budget:
        raise ValueError(f"the system prompt takes {overhead} tokens, and the budget is {budget}")
    tokens = chat_format.encode_text(question)
    room = min(len(tokens), budget - overhead)
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
        room -= max(1, len(prompt) - budget)
    return chat_format.encode_chat(system, (), "")


def _at_character(text: str, *, end: bool) -> str:
    """Drop what a cut in the middle of a character left behind."""
    return text.rstrip("\ufffd") if end else text.lstrip("\ufffd")
