"""Several answers to one request, as they grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from glmbot.completions import Completion
from glmbot.messages import Reply, ReplyState
from glmbot.ports import Completions

__all__ = ["NOTHING", "growing"]

NOTHING = Reply("", ReplyState.QUEUED)
"""Of an answer that has not begun."""

# The others wait, so that one request leaves room in the line for those of others.
_AT_ONCE = 4
# Of all answers together, likeliest tokens included; each takes some two hundred bytes here.
_MOST_SCORES = 2**19


async def growing(
    dialogue: Completions, completions: Sequence[Completion]
) -> AsyncGenerator[Sequence[Reply], None]:
    """All answers so far, again and again. Raises what `Completions.complete` raises, and then all end.

    The first one begins alone: once it is said something, those of the same prompt share what was computed of it.
    """
    if len(completions) == 1:
        async with aclosing(dialogue.complete(completions[0])) as replies:
            async for reply in replies:
                yield (reply,)
        return
    # As engines do it, what nobody has read yet holds up who makes more.
    told: asyncio.Queue[tuple[int, Reply | BaseException | None]] = asyncio.Queue(maxsize=1)
    slots = asyncio.Semaphore(_AT_ONCE)
    speaks = asyncio.Event()

    async def one(number: int) -> None:
        last: BaseException | None = None
        try:
            if number:
                await speaks.wait()
            async with slots, aclosing(dialogue.complete(completions[number])) as replies:
                async for reply in replies:
                    if reply.usage is not None and reply.usage.completion_tokens:
                        speaks.set()
                    await told.put((number, reply))
        except Exception as error:
            last = error
        speaks.set()
        await told.put((number, last))

    tasks = [asyncio.create_task(one(number)) for number in range(len(completions))]
    newest, left, held = [NOTHING] * len(tasks), len(tasks), 0
    try:
        while left:
            number, reply = await told.get()
            if isinstance(reply, Reply):
                held += _scores(reply) - _scores(newest[number])
                if held > _MOST_SCORES:
                    raise ValueError(
                        f"logprobs: at most {_MOST_SCORES:,} likelihoods are told to one request; ask for fewer"
                        " answers at once, or for fewer of the likeliest"
                    )
                newest[number] = reply
                yield tuple(newest)
            elif reply is not None:
                raise reply
            else:
                left -= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _scores(reply: Reply) -> int:
    """As many of the likeliest are told with each, but for a prompt's first token."""
    return sum(
        len(scores) * (1 + len(scores[-1].top)) for scores in (reply.scores, reply.prompt_scores) if scores
    )
