"""What GLM is asked: to continue after a question, or to fill the blank in a text.

GLM was not trained for dialogue. Its published examples ask `问题：… 回答： [gMASK]` and fill `[MASK]` inside a
text (https://github.com/THUDM/GLM, README); people write a blank as three or more underscores.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.models.base import ChatTurn
from glmbot.models.blank import around_blank
from glmbot.models.glm.tokenizer import GLMTokenizer
from glmbot.models.tokenizer_format import TokenizerFormat

__all__ = ["GENERATION_DEFAULTS", "GLMChatFormat"]

GENERATION_DEFAULTS = {"do_sample": True, "top_p": 0.7, "temperature": 0.9}

# Question, answer, what stands between two exchanges.
_WORDS = {False: ("Question: ", " Answer: ", " "), True: ("问题：", "回答：", "")}


class GLMChatFormat(TokenizerFormat[GLMTokenizer]):
    """See `glmbot.models.base.ChatFormat`."""

    stop_pieces = ("<|endofpiece|>", "<|endoftext|>")

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """`[CLS] … [gMASK] <|endoftext|> <|startofpiece|>`, or with `[MASK]` where the question has its first
        blank. A text to fill stands alone: neither history nor system prompt belong to it."""
        encode, control = self._tokenizer.encode_text, self._tokenizer.control
        around = around_blank(question)
        if around is not None:
            before, after = around
            text = [*encode(before), control["[MASK]"], *encode(after)]
        else:
            ask, answer, between = _WORDS[self._tokenizer.chinese]
            prompt = f"{system}{between}" if system else ""
            for turn in turns:
                prompt += f"{ask}{turn.question}{answer}{turn.answer}{between}"
            prompt += f"{ask}{question}{answer}".rstrip()
            # The smaller models know one kind of blank only.
            text = [*encode(prompt), control.get("[gMASK]", control["[MASK]"])]
        return [control["[CLS]"], *text, control["<|endoftext|>"], control["<|startofpiece|>"]]
