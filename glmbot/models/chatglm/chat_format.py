"""ChatGLM-6B's chat format: rounds in Chinese words, and answers with full-width punctuation restored."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmbot.models.base import ChatTurn
from glmbot.models.chatglm.tokenizer import ChatGLMTokenizer
from glmbot.models.chatglm.year import filled, open_end
from glmbot.models.tokenizer_format import TokenizerFormat

__all__ = ["GENERATION_DEFAULTS", "ChatGLMChatFormat"]

GENERATION_DEFAULTS = {"do_sample": True, "top_p": 0.7, "temperature": 0.95}

# The tokenizer's normalisation made all punctuation half-width; beside Chinese it is made full-width again.
_FULL_WIDTH = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
_CHINESE = "[\u4e00-\u9fff]"
_AFTER = {half: re.compile(f"(?<={_CHINESE}){re.escape(half)}") for half in _FULL_WIDTH}
_BEFORE = {half: re.compile(f"{re.escape(half)}(?={_CHINESE})") for half in _FULL_WIDTH}


class ChatGLMChatFormat(TokenizerFormat[ChatGLMTokenizer]):
    """See `glmbot.models.base.ChatFormat`."""

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """The format knows no system role, so a system prompt stands in front of all."""
        prompt = f"{system}\n" if system else ""
        for number, turn in enumerate(turns):
            prompt += f"[Round {number}]\n问：{turn.question}\n答：{turn.answer}\n"
        prompt += f"[Round {len(turns)}]\n问：{question}\n答：" if turns else question
        return self._tokenizer.build_inputs_with_special_tokens(self._tokenizer.encode_text(prompt))

    def finish_text(self, text: str) -> str:
        text = filled(text.strip())
        for half, full in _FULL_WIDTH.items():
            text = _BEFORE[half].sub(full, _AFTER[half].sub(full, text))
        return text

    def settled(self, text: str) -> int:
        """Punctuation is open until the next character is known."""
        certain = len(text) - open_end(text)
        return certain - 1 if text[:certain].endswith(tuple(_FULL_WIDTH)) else certain
