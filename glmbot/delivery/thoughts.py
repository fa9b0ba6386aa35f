"""The dialogue of a platform that is not to show what a model thinks: there, nobody has thought anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar, cast

from glmbot.completions import Completion
from glmbot.keys import ConversationKey
from glmbot.messages import Message, PastTurn, Reply

__all__ = ["without_thoughts"]

_D = TypeVar("_D")


def without_thoughts(dialogue: _D) -> _D:
    """The same dialogue, whose answers and histories come without thoughts."""
    return cast(_D, _Thoughtless(dialogue))


class _Thoughtless:
    """See `glmbot.ports.Dialogue`; what is not here holds no thought."""

    def __init__(self, dialogue: Any) -> None:
        self._dialogue = dialogue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialogue, name)

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        async with aclosing(self._dialogue.respond(message)) as replies:
            async for reply in replies:
                yield replace(reply, thought="")

    async def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        async with aclosing(self._dialogue.complete(request)) as replies:
            async for reply in replies:
                yield replace(reply, thought="")

    async def history(self, conversation: ConversationKey) -> Sequence[PastTurn]:
        return [replace(turn, thought="") for turn in await self._dialogue.history(conversation)]
