"""What the model is asked for a tool: in the name of who asked, by their limits, with no tools, and logged.

A server that may ask the model has somebody else's words answered on this machine. So it is bounded in number,
length and time, moderated like anybody's question, and told nothing of the conversation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import ceil

from glmbot.completions import Completion
from glmbot.dialogue.exchange import Exchange
from glmbot.dialogue.models import Talk
from glmbot.dialogue.quotas import Quotas
from glmbot.dialogue.tool_log import ToolLog
from glmbot.errors import ContentRefused, EngineError, GlmbotError, PromptTooLong
from glmbot.host import ToolFailed
from glmbot.messages import Reply, ReplyState, Role

__all__ = ["Sampled", "Sampling"]

_MOST_OF_AN_ANSWER = 10
_LONGEST_S = 120.0
_MOST_TURNS, _LONGEST = 64, 64_000

Complete = Callable[[Completion, Talk], AsyncGenerator[Reply, None]]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is asked: see `glmbot.host.ToolUse.sample`."""

    turns: Sequence[tuple[str, str]]
    system: str
    max_tokens: int
    temperature: float | None
    stop: tuple[str, ...]


class Sampling:
    def __init__(self, complete: Complete, quotas: Quotas, log: ToolLog) -> None:
        self._complete = complete
        self._quotas = quotas
        self._log = log

    async def said(self, exchange: Exchange, tool: str, wish: Sampled, number: int) -> str:
        """number: of how many in this answer it is. Raises ToolFailed; StoreError."""
        outcome = "failed"
        try:
            await self._check(exchange, wish, number)
            text = await self._answer(exchange, wish)
            outcome = "done"
            return text
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        except ToolFailed:
            outcome = "refused"
            raise
        finally:
            said = json.dumps([wish.system, *map(list, wish.turns)])
            await self._log.add(exchange.message, f"sampling {number}", f"{tool} (sampling)", said, outcome)

    async def _check(self, exchange: Exchange, wish: Sampled, number: int) -> None:
        message, standing = exchange.message, exchange.standing
        if number > _MOST_OF_AN_ANSWER:
            raise ToolFailed(f"The model was asked {_MOST_OF_AN_ANSWER} times already.")
        size = len(wish.system) + sum(len(text) for _, text in wish.turns)
        if not 0 < len(wish.turns) <= _MOST_TURNS or size > _LONGEST:
            raise ToolFailed(
                f"The model is asked 1 to {_MOST_TURNS} messages, of {_LONGEST:,} characters in all."
            )
        if standing is None or exchange.talk is None:
            raise ToolFailed("Nobody asks.")
        if standing.role is not Role.ADMIN:
            counted = replace(message, update_id=f"{message.update_id} sampling {number}")
            wait = await self._quotas.wait_of(counted, standing, exchange.settings)
            if wait:
                raise ToolFailed(f"This person may ask again in {ceil(wait / 60)} minutes.")

    async def _answer(self, exchange: Exchange, wish: Sampled) -> str:
        if exchange.talk is None:
            raise ToolFailed("No model answers here.")
        request = Completion(
            [*([("system", wish.system)] if wish.system else []), *wish.turns],
            exchange.message.user,
            max_tokens=max(1, min(wish.max_tokens, exchange.talk.sampling.max_tokens)),
            temperature=wish.temperature,
            stop=wish.stop,
            source=exchange.message.source,
        )
        last = Reply("", ReplyState.QUEUED)
        try:
            async with (
                asyncio.timeout(_LONGEST_S),
                aclosing(self._complete(request, exchange.talk)) as replies,
            ):
                async for reply in replies:
                    last = reply
        except ContentRefused as error:
            raise ToolFailed("The operator does not allow what stands in these messages.") from error
        except PromptTooLong as error:
            raise ToolFailed("These messages are longer than the model reads.") from error
        except TimeoutError as error:
            raise ToolFailed("The model took too long.") from error
        except (EngineError, GlmbotError, ValueError) as error:
            raise ToolFailed(f"The model has not answered: {type(error).__name__}.") from error
        if last.state is not ReplyState.FINAL:
            raise ToolFailed("The model has not answered.")
        return last.text
