"""The text of one remote answer, whether one server said all of it or several took over from each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from glmbot.engine.base import CallSoFar, ChatFormat, FinishReason, Progress, Sampling
from glmbot.engine.calls import calls_apart
from glmbot.engine.chat_prompt import MessagePrompt
from glmbot.engine.openai_stream import Delta, chat_body, completion_body
from glmbot.engine.openai_tools import GrowingCalls
from glmbot.engine.steady_text import AsWritten, SteadyText
from glmbot.engine.thoughts import apart
from glmbot.engine.told_tools import SYNTAXES
from glmbot.models.calls.bare import MistralCalls
from glmbot.models.calls.lines import NameAndJson
from glmbot.models.calls.syntax import CallSyntax

__all__ = ["ChatAnswer", "CompletionAnswer", "RemoteAnswer"]

# More characters than any tokenizer makes of so many tokens: a server that does not end is ended here.
_CHARACTERS, _CHARACTERS_A_TOKEN = 1024, 32
# What a server leaves in the text that was started without the reader for its model's calls.
_LEFT: Sequence[CallSyntax] = (*SYNTAXES, MistralCalls(), NameAndJson())


class RemoteAnswer(ABC):
    path: ClassVar[str]
    """Of the interface, behind a server's address."""

    def __init__(self, steady: SteadyText, begun: str, prompt_tokens: int, sampling: Sampling) -> None:
        self.prompt_tokens = prompt_tokens
        self.sampling = sampling
        self._steady = steady
        self._begun_text = begun
        self._text = ""
        self._thought = ""
        self._said_tokens = 0
        """Of what servers said that failed then, and that is kept."""
        self._events = 0
        self._usage = Delta()
        self._shown = ""
        self._thought_shown = ""
        self.finish: FinishReason | None = None
        self.cut = False
        """It was ended here, since the server did not end it."""

    @property
    def silent(self) -> bool:
        return not (self._text or self._thought or self._events or self._said_tokens)

    @property
    def has_tools(self) -> bool:
        """What is sent differs by whether a server takes tools."""
        return False

    @property
    def tokens_read(self) -> int:
        return max(0, (self._usage.prompt_tokens or self.prompt_tokens) - self.tokens_reused)

    @property
    def tokens_reused(self) -> int:
        return self._usage.cached_tokens or 0

    @property
    def characters(self) -> int:
        """All that a server has said."""
        return len(self._text) + len(self._thought)

    @abstractmethod
    def body(self, model: str, *, tools: bool) -> dict[str, Any]:
        """What to send for the rest of the answer, to a server that takes tools, or takes none."""

    def take(self, delta: Delta) -> None:
        if delta.completion_tokens is not None:
            self._usage = delta
        if delta.says_more:
            self._text += delta.text
            self._thought += delta.thought
            self._events += 1
        if delta.finish is not None:
            self.finish = delta.finish
        longest = _CHARACTERS + _CHARACTERS_A_TOKEN * self.sampling.max_tokens
        if self.characters > longest:
            self._text, self._thought = self._text[:longest], self._thought[:longest]
            self.finish, self.cut = FinishReason.LENGTH, True

    @abstractmethod
    def interrupt(self) -> None:
        """A server failed; another one is to go on. May take its time with a long text."""

    def progress(self) -> Progress:
        """An answer that had to begin again is not seen to shrink."""
        raw = self._begun_text + self._text
        text = self._steady.grown(raw) if self.finish is None else self._steady.ended(raw)
        if self.finish is not None or len(text) >= len(self._shown):
            self._shown = text
        if self.finish is not None or len(self._thought) >= len(self._thought_shown):
            self._thought_shown = self._thought
        drawn = self._said_tokens + (self._usage.completion_tokens or self._events)
        drawn = min(drawn, self.sampling.max_tokens)
        thought = self._thought_shown.strip()
        return Progress(self._shown, self.finish, None, self.prompt_tokens, drawn, thought)


class CompletionAnswer(RemoteAnswer):
    """Over the completions interface: what was said goes behind the prompt of the next server."""

    path = "completions"

    def __init__(
        self,
        chat_format: ChatFormat,
        prompt: Sequence[int],
        begun: int,
        sampling: Sampling,
        stop_tokens: Sequence[int],
    ) -> None:
        text = chat_format.decode(prompt[len(prompt) - begun :]) if begun else ""
        finishing = AsWritten() if sampling.as_written else chat_format
        super().__init__(SteadyText(finishing, text), text, len(prompt), sampling)
        self._format = chat_format
        self._prompt = prompt
        self._begun = begun
        self._stop_tokens = stop_tokens
        self._said: list[int] = []

    def body(self, model: str, *, tools: bool) -> dict[str, Any]:
        left = max(1, self.sampling.max_tokens - len(self._said))
        sampling = replace(self.sampling, max_tokens=left)
        body = completion_body(model, [*self._prompt, *self._said], sampling, self._stop_tokens)
        # Our own servers keep the spaces of an answer that goes on; others know no such key and need none.
        return {**body, "begun": begun} if (begun := self._begun + len(self._said)) else body

    def interrupt(self) -> None:
        self._said = self._format.encode_begun(self._text)
        self._said_tokens = len(self._said)
        if len(self._said) >= self.sampling.max_tokens:
            self.finish = FinishReason.LENGTH
        self._events = 0


class _AsTold:
    """What a server of chats sends is finished text, but for spaces around it."""

    def finish_text(self, text: str) -> str:
        return text.strip()

    def settled(self, text: str) -> int:
        return len(text)


class ChatAnswer(RemoteAnswer):
    """Over the chat interface: an answer that breaks off begins again, since not every service goes on from what
    was said. Its calls are shown once it has ended."""

    path = "chat/completions"

    def __init__(self, prompt: MessagePrompt, sampling: Sampling, *, thinks: bool = True) -> None:
        begun = prompt.begun
        super().__init__(SteadyText(_AsTold(), begun), begun, prompt.prompt_tokens, sampling)
        self._prompt = prompt
        self._thinks = thinks
        self._growing = GrowingCalls(prompt.offer)
        self._calls: tuple[CallSoFar, ...] | None = None

    @property
    def has_tools(self) -> bool:
        return self._prompt.has_tools

    @property
    def characters(self) -> int:
        return super().characters + self._growing.characters

    def body(self, model: str, *, tools: bool) -> dict[str, Any]:
        prompt = self._prompt
        messages, told = (prompt.messages, prompt.tools) if tools else (prompt.in_words, {})
        return chat_body(model, messages, self.sampling, tools=told, thinks=self._thinks)

    def take(self, delta: Delta) -> None:
        if self.finish is None:
            self._growing.take(delta.calls)
        super().take(delta)
        if self.finish is not None and self._calls is None:
            self._calls, words = self._growing.ended()
            if words:
                self._text = f"{self._text}\n{words}" if self._text.strip() else words

    def interrupt(self) -> None:
        self._text = self._thought = ""
        self._growing = GrowingCalls(self._prompt.offer)
        self._events = 0

    def progress(self) -> Progress:
        progress = super().progress()
        if not self._calls:
            return progress
        # Some servers end as if it were no call.
        finish = FinishReason.TOOL_CALLS if progress.finish is FinishReason.STOP else progress.finish
        return replace(progress, calls=self._calls, finish=finish)

    def read(self, said: AsyncGenerator[Progress, None]) -> AsyncGenerator[Progress, None]:
        """The snapshots with the thoughts and the calls taken out that a server has left in the text. Closes
        `said`."""
        known = len(self._prompt.beginning)
        parted = apart(said, known=known)
        offer = self._prompt.offer
        return calls_apart(parted, _LEFT, offer, known=known) if offer.callable else parted
