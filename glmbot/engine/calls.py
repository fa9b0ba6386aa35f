"""Calls of tools, taken out of what a model says."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from glmbot.engine.base import CallSoFar, FinishReason, Progress
from glmbot.models.calls.reader import MOST_CALLS, CallReader, call_id
from glmbot.models.calls.syntax import CallSyntax, WrittenCall
from glmbot.tools import Offer

__all__ = ["calls_apart"]


async def calls_apart(
    generation: AsyncGenerator[Progress, None],
    syntaxes: Sequence[CallSyntax],
    offer: Offer,
    *,
    known: int = 0,
    valid: bool = False,
) -> AsyncGenerator[Progress, None]:
    """The same snapshots with the calls taken out of the text, behind those that there are. Closes `generation`.

    known: so many of the first characters are no call. valid: the engine lets nothing else through than valid
    calls, which are therefore shown while they grow; others when they are whole, as they may turn out to be words.
    """
    tools = {tool.name: tool.parameters for tool in offer.callable}
    most = MOST_CALLS if offer.parallel else 1
    reader = CallReader(syntaxes, tools, known=known, most=most)
    answer = random.getrandbits(64)

    def said(calls: Sequence[WrittenCall], *, growing: bool) -> tuple[CallSoFar, ...]:
        return tuple(
            CallSoFar(call_id(answer, number), call.name, call.arguments)
            for number, call in enumerate(calls)
            if (valid and growing) or call.whole
        )

    async with aclosing(generation):
        async for progress in generation:
            cut = progress.finish in (FinishReason.LENGTH, FinishReason.DEADLINE)
            # Where nothing but calls can follow its opening, one that was cut off is no words either.
            if progress.finish is None or (valid and cut):
                text, calls = reader.read(progress.text)
            else:
                text, calls = reader.end(progress.text)
            finish = progress.finish
            if calls and (finish is FinishReason.STOP or (finish is None and reader.full)):
                finish = FinishReason.TOOL_CALLS
            found = (*progress.calls, *said(calls, growing=finish is None))
            yield replace(progress, text=text, calls=found[:most], finish=finish)
            if finish is not None:
                return
