"""What a model thinks, taken out of what it says: people and histories get answers, and thoughts beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from glmbot.engine.base import ChatFormat, FinishReason, Progress
from glmbot.engine.score import Score
from glmbot.models.thoughts import CLOSING, OPENING, Thoughts, answer_of, joined, parted

__all__ = ["answer_of", "apart", "begins_inside", "parted"]

# Of a prompt's end: a tag in pieces of one or two characters, and the lines around it.
_LAST_TOKENS = 12


async def apart(
    generation: AsyncGenerator[Progress, None], *, inside: bool = False, known: int = 0
) -> AsyncGenerator[Progress, None]:
    """The same snapshots with the thoughts taken out of the text. Closes `generation`.

    inside, known: see `Thoughts`.
    """
    thoughts = Thoughts(inside, known)
    async with aclosing(generation):
        async for progress in generation:
            if progress.finish is None:
                thought, text = thoughts.read(progress.text)
            else:
                thought, text = thoughts.end(progress.text, cut=progress.finish is not FinishReason.STOP)
            yield replace(
                progress,
                text=text,
                thought=joined(progress.thought, thought),
                scores=_of_answer(progress, text, inside=inside),
            )


def _of_answer(progress: Progress, text: str, *, inside: bool) -> Sequence[Score]:
    """The scores that may be told where thoughts may not: of what stands between two of these, rather too few than
    too many."""
    raw, scores = progress.text, progress.scores
    if not scores:
        return ()
    if not text and (inside or raw.strip()):
        # It thinks, or may begin to.
        return ()
    if not inside and OPENING not in raw and CLOSING not in raw:
        return scores
    closing = raw.rfind(CLOSING)
    begin = closing + len(CLOSING) if closing >= 0 else 0
    opening = raw.find(OPENING, begin)
    return tuple(score for score in scores if score.start >= begin and (opening < 0 or score.start < opening))


def begins_inside(chat_format: ChatFormat, prompt: Sequence[int]) -> bool:
    """Whether the prompt ends with a thought that was opened and has yet to be thought."""
    return chat_format.decode(prompt[-_LAST_TOKENS:]).rstrip().endswith(OPENING)
