"""The chat formats of ChatGLM2-6B (rounds in Chinese words) and ChatGLM3-6B (roles as tokens)."""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.models.base import ChatTurn, Vocabulary
from glmbot.models.chatglm.year import filled, open_end
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer

__all__ = ["GENERATION_DEFAULTS", "ChatGLM2ChatFormat", "ChatGLM3ChatFormat"]

GENERATION_DEFAULTS = {"do_sample": True, "top_p": 0.8, "temperature": 0.8}


class _Format:
    def __init__(self, tokenizer: ChatGLM2Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode_text(self, text: str) -> list[int]:
        return self._tokenizer.encode_text(text)

    def encode_begun(self, answer: str) -> list[int]:
        return self.encode_text(answer)

    def vocabulary(self) -> Vocabulary:
        return self._tokenizer.vocabulary()

    def decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode_text(tokens)

    def finish_text(self, text: str) -> str:
        return filled(text.strip())

    def settled(self, text: str) -> int:
        return len(text) - open_end(text)


class ChatGLM2ChatFormat(_Format):
    """See `glmbot.models.base.ChatFormat`."""

    stop_pieces: tuple[str, ...] = ()

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """The format knows no system role, so a system prompt stands in front of all."""
        prompt = f"{system}\n\n" if system else ""
        for number, turn in enumerate(turns, 1):
            prompt += f"[Round {number}]\n\n问：{turn.question}\n\n答：{turn.answer}\n\n"
        prompt += f"[Round {len(turns) + 1}]\n\n问：{question}\n\n答："
        return self._tokenizer.build_inputs_with_special_tokens(self._tokenizer.encode_text(prompt))


class ChatGLM3ChatFormat(_Format):
    """See `glmbot.models.base.ChatFormat`."""

    stop_pieces = ("<|user|>", "<|observation|>")
    takes_system = True

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        tokens = self._message("system", system) if system else []
        for turn in turns:
            tokens += self._message("user", turn.question) + self._message("assistant", turn.answer)
        tokens += self._message("user", question)
        tokens.append(self._tokenizer.control["<|assistant|>"])
        return self._tokenizer.build_inputs_with_special_tokens(tokens)

    def encode_begun(self, answer: str) -> list[int]:
        return [*self.encode_text("\n"), *self.encode_text(answer)]

    def _message(self, role: str, text: str) -> list[int]:
        # The line after the role is for metadata (a tool's name), and empty in a chat.
        encode = self._tokenizer.encode_text
        return [self._tokenizer.control[f"<|{role}|>"], *encode("\n"), *encode(text)]
