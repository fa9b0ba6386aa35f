"""What GLM-130B is asked in a chat. It is no chat model and no chat prompt of its was published.

So a conversation is plain text, one line after another, and the answer goes on behind `[gMASK]`; a question with a
blank (three or more underscores) is a text of its own whose first blank is filled.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.models.base import ChatTurn
from glmbot.models.blank import around_blank
from glmbot.models.glm130b.tokenizer import GLM130BTokenizer
from glmbot.models.tokenizer_format import TokenizerFormat

__all__ = ["GENERATION_DEFAULTS", "GLM130BChatFormat"]

GENERATION_DEFAULTS = {"do_sample": True, "top_p": 0.7, "top_k": 0, "temperature": 1.0}


class GLM130BChatFormat(TokenizerFormat[GLM130BTokenizer]):
    """See `glmbot.models.base.ChatFormat`."""

    def __init__(self, tokenizer: GLM130BTokenizer, end: int) -> None:
        """end: the id of `</s>`, which stands behind a text whose blank is inside."""
        super().__init__(tokenizer)
        self._end = end

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """`text [gMASK] sop`, or `before [MASK] after </s> sop`."""
        encode, control = self._tokenizer.encode_text, self._tokenizer.control
        around = around_blank(question)
        if around is not None:
            before, after = around
            text = [*(encode(before) if before else []), control["[MASK]"]]
            if after.strip():
                text += [*encode(after), self._end]
            return [*text, control["sop"]]
        lines = [system] if system else []
        for turn in turns:
            lines += [turn.question, turn.answer]
        return [*encode("\n".join([*lines, question])), control["[gMASK]"], control["sop"]]
