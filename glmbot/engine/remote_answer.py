"""The text of one remote answer, whether one server said all of it or several took over from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glmbot.engine.base import ChatFormat, FinishReason, Progress, Sampling
from glmbot.engine.openai_stream import Delta, chat_body, completion_body
from glmbot.engine.served_format import read_messages
from glmbot.engine.steady_text import SteadyText

__all__ = ["RemoteAnswer"]

# More characters than any tokenizer makes of so many tokens: a server that does not end is ended here.
_CHARACTERS, _CHARACTERS_A_TOKEN = 1024, 32


class RemoteAnswer:
    """`stop_tokens` None is the chat interface; there an answer that breaks off begins again, since not every
    service goes on from what was said."""

    def __init__(
        self,
        chat_format: ChatFormat,
        prompt: Sequence[int],
        begun: int,
        sampling: Sampling,
        stop_tokens: Sequence[int] | None,
    ) -> None:
        self._format = chat_format
        self._prompt = prompt
        self._begun = begun
        self._begun_text = chat_format.decode(prompt[len(prompt) - begun :]) if begun else ""
        self._steady = SteadyText(chat_format, self._begun_text)
        self._sampling = sampling
        self._stop_tokens = stop_tokens
        self._text = ""
        self._said: list[int] = []
        """Tokens of what servers said that failed then."""
        self._events = 0
        self._usage = Delta()
        self._shown = ""
        self.finish: FinishReason | None = None
        self.cut = False
        """It was ended here, since the server did not end it."""

    @property
    def silent(self) -> bool:
        return not self._text and not self._said

    @property
    def tokens_read(self) -> int:
        return max(0, (self._usage.prompt_tokens or len(self._prompt)) - self.tokens_reused)

    @property
    def tokens_reused(self) -> int:
        return self._usage.cached_tokens or 0

    def body(self, model: str) -> dict[str, Any]:
        """What to send for the rest of the answer."""
        if self._stop_tokens is None:
            return chat_body(model, read_messages(self._prompt, self._begun), self._sampling)
        left = max(1, self._sampling.max_tokens - len(self._said))
        sampling = replace(self._sampling, max_tokens=left)
        body = completion_body(model, [*self._prompt, *self._said], sampling, self._stop_tokens)
        # Our own servers keep the spaces of an answer that goes on; others know no such key and need none.
        return {**body, "begun": begun} if (begun := self._begun + len(self._said)) else body

    def take(self, delta: Delta) -> None:
        if delta.completion_tokens is not None:
            self._usage = delta
        if delta.text:
            self._text += delta.text
            self._events += 1
        if delta.finish is not None:
            self.finish = delta.finish
        longest = _CHARACTERS + _CHARACTERS_A_TOKEN * self._sampling.max_tokens
        if len(self._text) > longest:
            self._text, self.finish, self.cut = self._text[:longest], FinishReason.LENGTH, True

    def interrupt(self) -> None:
        """A server failed. What it said is kept, and goes behind the prompt of the next."""
        if self._stop_tokens is None:
            self._text = ""
        else:
            self._said = self._format.encode_begun(self._text)
            if len(self._said) >= self._sampling.max_tokens:
                self.finish = FinishReason.LENGTH
        self._events = 0

    def progress(self) -> Progress:
        """An answer that had to begin again is not seen to shrink."""
        raw = self._begun_text + self._text
        text = self._steady.grown(raw) if self.finish is None else self._steady.ended(raw)
        if self.finish is not None or len(text) >= len(self._shown):
            self._shown = text
        drawn = len(self._said) + (self._usage.completion_tokens or self._events)
        drawn = min(drawn, self._sampling.max_tokens)
        return Progress(self._shown, self.finish, None, len(self._prompt), drawn)
