"""What GLM-130B is asked: a text with blanks. How a text becomes a prompt, and how several blanks are filled.

As in the published inference code. `encode` is a tokenizer's: text to ids, of one piece between two blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmbot.errors import PromptTooLong
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.positions import MaskPositions

__all__ = ["Blanks", "answer_room", "fill_blanks"]

_MASKS = ("[MASK]", "[sMASK]", "[gMASK]")
"""The first of these that a text has is the kind that is filled; others stay as they are."""
_CUT = re.compile(r"(\[MASK\]|\[gMASK\]|\[sMASK\])")
_MOST_ROUNDS = 64
OUT_SEQ_LENGTH = 256
"""Of the published script: context, start token and answer together."""

_Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Blanks:
    """A text with its blanks, as ids. `tokens` have no start token at their end."""

    tokens: tuple[int, ...]
    kind: int
    """The mask token that is filled."""
    config: GLM130BConfig

    @classmethod
    def read(cls, text: str, encode: _Encode, config: GLM130BConfig) -> Blanks:
        """Raises PromptTooLong for more tokens than the model has positions."""
        ids: dict[str, int] = dict(
            zip(_MASKS, (config.mask_token_id, config.smask_token_id, config.gmask_token_id), strict=True)
        )
        kind = next((mask for mask in _MASKS if mask in text), None)
        if kind is None:
            kind = "[gMASK]"
            text += kind
        tokens = [
            token
            for piece in _CUT.split(text)
            if piece
            for token in ([ids[piece]] if piece in ids else encode(piece))
        ]
        if not text.endswith(_MASKS):
            tokens.append(int(config.eos_token_id))
        if len(tokens) > config.max_sequence_length:
            raise PromptTooLong(len(tokens), config.max_sequence_length)
        return cls(tuple(tokens), ids[kind], config)

    @property
    def left(self) -> bool:
        """Whether there is a blank to fill."""
        return self.kind in self.tokens

    @property
    def prompt(self) -> list[int]:
        """Token ids whose answer goes into the first blank."""
        return [*self.tokens, self.config.sop_token_id]

    @property
    def positions(self) -> MaskPositions:
        """Where the prompt's tokens stand, whatever masks of other kinds an earlier answer has brought in."""
        return MaskPositions(self.config.sop_token_id, (self.kind,), counting=self.config.gmask_token_id)

    def filled(self, answer: Sequence[int], ends: frozenset[int]) -> Blanks:
        """With the answer in place of the first blank, without the end token that it may have."""
        if answer and answer[-1] in ends:
            answer = answer[:-1]
        at = self.tokens.index(self.kind)
        tokens = (*self.tokens[:at], *answer, *self.tokens[at + 1 :])
        return Blanks(tokens, self.kind, self.config)

    @property
    def result(self) -> list[int]:
        """What is decoded at the end."""
        tokens = list(self.tokens)
        return tokens[:-1] if tokens and tokens[-1] == self.config.eos_token_id else tokens


def answer_room(prompt: Sequence[int], out_seq_length: int = OUT_SEQ_LENGTH) -> int:
    """How many tokens an answer may have where `out_seq_length` counts all."""
    return max(0, out_seq_length - len(prompt))


def fill_blanks(
    blanks: Blanks,
    answer: Callable[[Blanks, int], Sequence[int]],
    ends: frozenset[int],
    *,
    out_seq_length: int = OUT_SEQ_LENGTH,
    most_rounds: int = _MOST_ROUNDS,
) -> Blanks:
    """Fill one blank after another, each with a prompt of its own.

    answer: given the blanks and the most tokens, the answer with its end token if it has one. An answer may hold
    a mask itself, which is filled too; so the rounds are bounded, and what is left then stays.
    """
    for _ in range(most_rounds):
        room = answer_room(blanks.prompt, out_seq_length)
        if not blanks.left or room == 0:
            break
        blanks = blanks.filled(answer(blanks, room), ends)
    return blanks
