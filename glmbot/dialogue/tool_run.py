"""One call of a tool, as the tool sees it, and how it ends: with words for the model, whatever the tool does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmbot.bot import Bot
from glmbot.dialogue.guard import Clock
from glmbot.dialogue.tool_sampling import Sampled
from glmbot.dialogue.tool_words import plain, title_of
from glmbot.dialogue.toolset import Offered
from glmbot.errors import MessageGone
from glmbot.host import Nature, ToolFailed
from glmbot.messages import ChatKind, Message

__all__ = ["ENDED", "UNKNOWN", "Came", "Questioner", "Sampler", "Use", "run"]

UNKNOWN = (
    "It is not known whether this was done: the bot was restarted, or stopped, while it was under way. It is not"
    " done again. Tell the person so."
)
ENDED = "It was stopped before it ended."
_LONGEST_RESULT = 200_000
_LONGEST_FAILURE = 2000
_LONGEST_PROGRESS = 100

Questioner = Callable[["Use", str, Sequence[str], bool], Awaitable[str | None]]
"""Asks the person, and waits: see `ToolUse.ask`."""
Sampler = Callable[["Use", Sampled], Awaitable[str]]
"""Asks the model: see `ToolUse.sample`."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a call: `outcome` as the log of tools has it."""

    text: str
    failed: bool
    outcome: str


class Use:
    """See `glmbot.host.ToolUse`."""

    def __init__(
        self,
        call_id: str,
        arguments: Mapping[str, Any],
        message: Message,
        language: str,
        timezone: str,
        bot: Bot,
        offered: Offered,
        *,
        seconds: float,
        questioner: Questioner,
        sampler: Sampler,
        changed: Callable[[], None],
    ) -> None:
        self.id = call_id
        self.arguments = arguments
        self.user = str(message.user)
        self.user_name = message.user_name
        self.conversation = str(message.conversation)
        self.chat_kind: ChatKind = message.chat_kind
        self.language = language
        self.timezone = timezone
        self.bot = bot
        self.offered = offered
        self.shown = title_of(offered.tool, language)
        self._clock = Clock(min(offered.tool.timeout_s, seconds))
        self._questioner = questioner
        self._sampler = sampler
        self._changed = changed
        self._ended = False

    def progress(self, words: str) -> None:
        title = title_of(self.offered.tool, self.language)
        self.shown = f"{title}: {plain(str(words), _LONGEST_PROGRESS)}"
        self._changed()

    async def ask(self, question: str, choices: Sequence[str], *, typed: bool = False) -> str | None:
        if self._ended:
            return None
        # The time of people is nobody's fault.
        with self._clock.stopped():
            return await self._questioner(self, question, choices, typed)

    async def sample(
        self,
        turns: Sequence[tuple[str, str]],
        *,
        system: str = "",
        max_tokens: int = 256,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        if self._ended:
            raise ToolFailed("The call has ended.")
        return await self._sampler(self, Sampled(turns, system, max_tokens, temperature, tuple(stop)))

    async def run(self) -> str:
        """Raises what the tool raises, and TimeoutError."""
        try:
            found: object = await self._clock.run(self.offered.tool.function(self))
        finally:
            self._ended = True
        if not isinstance(found, str):
            raise TypeError(f"it returned {type(found).__name__}, and no text")
        return found


async def run(use: Use) -> Came:
    """Never raises but CancelledError."""
    tool, log = use.offered.tool, use.offered.log
    try:
        text = await use.run()
    except ToolFailed as error:
        return Came(_cut(str(error), _LONGEST_FAILURE) or "It failed.", True, "failed")
    except asyncio.CancelledError:
        raise
    except MessageGone:
        return Came(ENDED, True, "stopped")
    except TimeoutError:
        log.error("the tool %s took too long, and was ended", tool.name)
        words = "It took too long, and was ended."
        return Came(UNKNOWN if tool.nature is Nature.ACTS else words, True, "late")
    except BaseException as error:
        log.error("the tool %s failed: %s", tool.name, type(error).__name__, exc_info=error)
        # How far it came before that, nobody knows.
        words = "It failed by a fault of its own."
        return Came(UNKNOWN if tool.nature is Nature.ACTS else words, True, "failed")
    return Came(_cut(text, _LONGEST_RESULT), False, "done")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[{len(text) - most} more characters are left out]"
