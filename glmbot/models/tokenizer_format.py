"""What chat formats take from their tokenizer as it is, where an answer is shown as it was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from glmbot.models.base import Vocabulary

__all__ = ["TokenizerFormat"]


class _Tokenizer(Protocol):
    def encode_text(self, text: str) -> list[int]: ...

    def decode_text(self, tokens: Sequence[int]) -> str: ...

    def vocabulary(self) -> Vocabulary: ...


_T = TypeVar("_T", bound=_Tokenizer)


class TokenizerFormat(Generic[_T]):
    """Of `glmbot.models.base.ChatFormat` all but the prompt."""

    def __init__(self, tokenizer: _T) -> None:
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
        return text.strip()

    def settled(self, text: str) -> int:
        return len(text)
