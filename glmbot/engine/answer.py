"""One answer while it is made: what may follow, what is drawn for it, what a drawn token means, its text so far.

Pure bookkeeping. The model thread computes, and serves many of these at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence

from glmbot.engine.base import FinishReason, Progress
from glmbot.engine.detokenizer import Detokenizer
from glmbot.engine.lookup import PromptLookup
from glmbot.engine.sampling import Draw
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.engine.steady_text import SteadyText
from glmbot.models.base import ChatFormat

__all__ = ["Answer"]


class Answer:
    """The last `begun` tokens of the sequence's prompt are the beginning of the answer."""

    def __init__(
        self, sequence: EngineSequence, begun: int, chat_format: ChatFormat, stop_tokens: Collection[int]
    ) -> None:
        beginning = sequence.tokens[sequence.prompt_length - begun : sequence.prompt_length]
        self.sequence = sequence
        self._stop_tokens = stop_tokens
        self._detokenizer = Detokenizer(chat_format.decode, sequence.sampling.stop, beginning)
        self._steady = SteadyText(chat_format, chat_format.decode(beginning) if beginning else "")
        self._dice = random.Random(sequence.sampling.seed)
        # Numbers thrown and not yet used: each decides one token of the answer, in their order.
        self._uniforms: deque[float] = deque()
        self._lookup = PromptLookup()

    def guess(self) -> tuple[int, ...]:
        """Tokens that may follow, worth computing with the next step."""
        sequence = self.sequence
        # The last token that may be drawn is never computed.
        most = sequence.sampling.max_tokens - sequence.drawn - 1
        if sequence.anew_after:
            most = min(most, sequence.anew_after - len(sequence.tokens))
        return self._lookup.guess(sequence.tokens, most) if most > 0 else ()

    def judge(self, guessed: int, right: int) -> None:
        """Tell how many of the last guesses were right."""
        self._lookup.judge(guessed, right)

    def draws(self, guessed: Sequence[int]) -> list[Draw]:
        """How to draw the next token, and the one after each of `guessed`."""
        sequence = self.sequence
        penalised = sequence.sampling.repetition_penalty != 1.0
        while len(self._uniforms) <= len(guessed):
            self._uniforms.append(self._dice.random())
        return [
            Draw(
                sequence.sampling,
                sequence.seen | set(guessed[:ahead]) if penalised else (),
                self._uniforms[ahead],
            )
            for ahead in range(len(guessed) + 1)
        ]

    def append(self, token: int) -> FinishReason | None:
        """Take what was drawn; why the answer ends with it, or None."""
        sequence = self.sequence
        self._uniforms.popleft()
        sequence.tokens.append(token)
        sequence.seen.add(token)
        if token in self._stop_tokens:
            return FinishReason.STOP
        self._detokenizer.push(token)
        if self._detokenizer.stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if sequence.drawn >= sequence.sampling.max_tokens else None

    def growing(self) -> Progress:
        return self._progress(self._steady.grown(self._detokenizer.text), None)

    def ended(self, reason: FinishReason) -> Progress:
        return self._progress(self._steady.ended(self._detokenizer.finish()), reason)

    def _progress(self, text: str, finish: FinishReason | None) -> Progress:
        return Progress(
            text=text,
            finish=finish,
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=self.sequence.drawn,
        )
