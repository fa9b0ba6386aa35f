"""The tokens of one step, laid end to end, and where each stands."""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.engine.attention import Segment
from glmbot.engine.scheduler import Chunk
from glmbot.models.positions import PositionScheme

__all__ = ["Step", "step_of"]


class Step:
    """Plain numbers: several processes that share a model are sent the same."""

    def __init__(self, scheme: PositionScheme, prefix: int) -> None:
        self.tokens: list[int] = []
        self.positions: list[list[int]] = [[] for _ in range(scheme.rows)]
        self.regimes: list[int] = []
        self.places: list[int] = []
        self.segments: list[Segment] = []
        self.drawing: list[int] = []
        self._scheme = scheme
        self._prefix = prefix

    def add(
        self,
        tokens: list[int],
        prompt_length: int,
        *,
        start: int,
        end: int,
        place: int,
        drawing: int,
        regime: int = 0,
    ) -> None:
        """Append tokens[start:end] of a sequence whose range in the arena begins at `place`; logits are wanted
        after the last `drawing` of them."""
        prompt = tokens if len(tokens) == prompt_length else tokens[:prompt_length]
        context = self._scheme.context_length(prompt)
        if start < context:
            if start > 0 or end < context:
                raise RuntimeError("a context that is seen in both directions was cut into chunks")
            self._add_segment(place, 0, context, causal=False)
        self._add_segment(place, max(start, context), end, causal=True)
        for row, added in zip(self.positions, self._scheme.positions(prompt, start, end), strict=True):
            row += added
        self.regimes += [regime] * (end - start)
        first = place + self._prefix
        self.places += range(first + start, first + end)
        self.tokens += tokens[start:end]
        self.drawing += range(len(self.tokens) - drawing, len(self.tokens))

    def bases(self) -> list[int]:
        """Of each token, where its sequence begins in the arena."""
        return [segment.start for segment in self.segments for _ in range(segment.length)]

    def counts(self) -> list[int]:
        """Of each token, how many entries of its sequence it sees."""
        counts: list[int] = []
        for segment in self.segments:
            end = segment.cached + segment.length
            counts += range(segment.cached + 1, end + 1) if segment.causal else [end] * segment.length
        return counts

    def _add_segment(self, place: int, start: int, end: int, *, causal: bool) -> None:
        if start < end:
            first = self.segments[-1].first + self.segments[-1].length if self.segments else 0
            self.segments.append(Segment(first, end - start, place, self._prefix + start, causal))


def step_of(chunks: Sequence[Chunk], scheme: PositionScheme, prefix: int, *, ahead: bool = False) -> Step:
    """ahead: in place of each chunk the token behind it, which is not known yet."""
    step = Step(scheme, prefix)
    for chunk in chunks:
        sequence = chunk.sequence
        if sequence.place is None:
            raise RuntimeError(f"sequence {sequence.id} was scheduled without a cache range")
        start, guessed = sequence.computed + int(ahead), (0,) if ahead else chunk.guessed
        step.add(
            [*sequence.tokens, *guessed] if guessed else sequence.tokens,
            sequence.prompt_length,
            start=start,
            end=start + chunk.length + len(chunk.guessed),
            place=sequence.place.start,
            regime=sequence.regime,
            drawing=chunk.rows,
        )
    return step
