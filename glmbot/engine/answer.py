"""One answer while it is made: what may follow, what is drawn for it, what a drawn token means, its text so far.

Pure bookkeeping. The model thread computes, and serves many of these at once.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from glmbot.engine.base import FinishReason, Progress, Score
from glmbot.engine.detokenizer import Detokenizer
from glmbot.engine.lookup import PromptLookup
from glmbot.engine.sampling import Draw, Mask
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.engine.score import Grown
from glmbot.engine.steady_text import AsWritten, SteadyText
from glmbot.models.base import ChatFormat

__all__ = ["Answer"]

# Of a prompt's end: what the first token's text may depend on.
_CONTEXT_TOKENS = 6


class Answer:
    """The last `begun` tokens of the sequence's prompt are the beginning of the answer."""

    def __init__(
        self, sequence: EngineSequence, begun: int, chat_format: ChatFormat, stop_tokens: Collection[int]
    ) -> None:
        beginning = sequence.tokens[sequence.prompt_length - begun : sequence.prompt_length]
        self.sequence = sequence
        self._stop_tokens = stop_tokens
        as_written = sequence.sampling.as_written
        self._detokenizer = Detokenizer(
            chat_format.decode,
            sequence.sampling.stop,
            beginning,
            before=sequence.tokens[-_CONTEXT_TOKENS:] if as_written else (),
        )
        # What has a form is left as it is: a comma that becomes full-width is another one.
        plain = as_written or sequence.matcher is not None
        finishing = AsWritten() if plain else chat_format
        self._steady = SteadyText(finishing, chat_format.decode(beginning) if beginning else "")
        self._dice = random.Random(sequence.sampling.seed)
        # Numbers thrown and not yet used: each decides one token of the answer, in their order.
        self._uniforms: deque[float] = deque()
        self._lookup = PromptLookup()
        sampling = sequence.sampling
        self._said = Counter(beginning) if sampling.presence_penalty or sampling.frequency_penalty else None
        self._scores: list[Score] = []
        # Of each, where in the text its token ends.
        self._ends: list[int] = []
        self._prompt_scores: tuple[Score, ...] = ()

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

    def draws(self, guessed: Sequence[int], masks: Sequence[Mask | None]) -> list[Draw]:
        """How to draw the next token, and the one after each of `guessed`; of each what may be drawn."""
        sampling = self.sequence.sampling
        while len(self._uniforms) <= len(guessed):
            self._uniforms.append(self._dice.random())
        seen = self.sequence.seen if sampling.repetition_penalty != 1.0 else None
        said = self._said
        draws = [Draw(sampling, seen or (), self._uniforms[0], said or {}, masks[0])]
        for ahead, guess in enumerate(guessed, 1):
            # The answer's own are those of what was drawn; most steps guess nothing and copy nothing.
            if seen is not None:
                seen = seen | {guess}
            if said is not None:
                said = Counter(said)
                said[guess] += 1
            draws.append(Draw(sampling, seen or (), self._uniforms[ahead], said or {}, masks[ahead]))
        return draws

    def draw_after_next(self) -> Draw:
        """How to draw the token behind the next one while that is not known: only a repetition penalty may fall
        on it, by whoever knows it then."""
        sampling = self.sequence.sampling
        while len(self._uniforms) < 2:
            self._uniforms.append(self._dice.random())
        return Draw(sampling, self.sequence.seen, self._uniforms[1])

    def read(self, scores: Sequence[Score]) -> None:
        """Take those of the next tokens of the prompt."""
        self._prompt_scores += tuple(scores)

    def append(self, token: int, score: Score | None = None) -> FinishReason | None:
        """Take what was drawn; why the answer ends with it, or None. Raises EngineError for an answer that can't
        be held to its form."""
        sequence = self.sequence
        self._uniforms.popleft()
        sequence.tokens.append(token)
        sequence.seen.add(token)
        if sequence.matcher is not None:
            sequence.matcher.take(token)
        if token in self._stop_tokens:
            if score is not None and sequence.sampling.as_written:
                # Whoever scores texts counts tokens; in a chat it is no part of what was said.
                self._score(score, self._detokenizer.length)
            return FinishReason.STOP
        if self._said is not None:
            self._said[token] += 1
        start = self._detokenizer.length
        self._detokenizer.push(token)
        if score is not None:
            self._score(score, start)
        if self._detokenizer.stopped:
            return FinishReason.STOP
        if sequence.matcher is not None and sequence.matcher.ended:
            return FinishReason.STOP
        return FinishReason.LENGTH if sequence.drawn >= sequence.sampling.max_tokens else None

    def _score(self, score: Score, start: int) -> None:
        self._scores.append(replace(score, start=start))
        self._ends.append(self._detokenizer.length)

    def growing(self) -> Progress:
        text = self._detokenizer.text
        return self._progress(self._steady.grown(text), None, bisect_right(self._ends, len(text)))

    def ended(self, reason: FinishReason) -> Progress:
        text = self._detokenizer.finish()
        scores = len(self._scores)
        if self._detokenizer.stopped:
            # Those of the stop text are not said.
            scores = bisect_left(self._scores, len(text), key=lambda score: score.start)
        return self._progress(self._steady.ended(text), reason, scores)

    def _progress(self, text: str, finish: FinishReason | None, scores: int) -> Progress:
        return Progress(
            text=text,
            finish=finish,
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=self.sequence.drawn,
            scores=Grown(self._scores, scores) if scores else (),
            prompt_scores=self._prompt_scores,
        )
