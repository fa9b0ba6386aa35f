"""The tokenizer of ChatGLM2-6B and ChatGLM3-6B: SentencePiece's `tokenizer.model`, control tokens after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, cast

from transformers import PreTrainedTokenizer

from glmbot.models.base import Vocabulary
from glmbot.models.sentencepiece_text import SentencePieceText

__all__ = ["ChatGLM2Tokenizer"]

# In this order their ids follow SentencePiece's. ChatGLM2 has the first five.
_CONTROL = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")


class ChatGLM2Tokenizer(PreTrainedTokenizer):
    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "tokenizer.model"}  # pyright: ignore[reportIncompatibleVariableOverride]
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask", "position_ids"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        vocab_file: str,
        eos_token: str = "</s>",
        pad_token: str = "<unk>",
        unk_token: str = "<unk>",
        padding_side: str = "left",
        **kwargs: Any,
    ) -> None:
        """Raises ModelFileError when vocab_file is not a SentencePiece model."""
        self.vocab_file = vocab_file
        self.text = SentencePieceText(Path(vocab_file), (*_CONTROL[:3], *_ROLES))
        self.control = {piece: self.text.size + place for place, piece in enumerate((*_CONTROL, *_ROLES))}
        self._control_pieces = {token: piece for piece, token in self.control.items()}
        self._silent = frozenset(
            token for piece in ("<unk>", "<s>", "</s>") if (token := self.text.id_of(piece)) is not None
        )
        # Written-out control tokens in text are text.
        kwargs.setdefault("split_special_tokens", True)
        super().__init__(
            eos_token=eos_token, pad_token=pad_token, unk_token=unk_token, padding_side=padding_side, **kwargs
        )

    @property
    def vocab_size(self) -> int:
        return self.text.size + len(self.control)

    def get_vocab(self) -> dict[str, int]:
        words = {self.text.piece_of(token): token for token in range(self.text.size)}
        return words | self.control | self.added_tokens_encoder

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text; never a control token."""
        return self.text.encode(text)

    def decode_text(self, tokens: Sequence[int]) -> str:
        """Text of token ids, control tokens left out. Text after a control token begins anew."""
        words = groupby(tokens, key=lambda token: token < self.text.size)
        runs = (
            [token for token in run if token >= 0 and token not in self._silent]
            for is_text, run in words
            if is_text
        )
        return "".join(self.text.decode(run) for run in runs)

    def vocabulary(self) -> Vocabulary:
        texts = {
            token: written
            for token in range(self.text.size)
            if token not in self._silent and (written := self.text.bytes_of(token)) is not None
        }
        return Vocabulary(texts, self._control_pieces)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`[gMASK] sop text`, and after it an answer with its `</s>`."""
        tokens = [self.control["[gMASK]"], self.control["sop"], *token_ids_0]
        return tokens if token_ids_1 is None else [*tokens, *token_ids_1, cast(int, self.eos_token_id)]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        return (str(self.text.save(Path(save_directory), "tokenizer.model", filename_prefix)),)

    def _tokenize(self, text: str, **_kwargs: Any) -> list[str]:
        return self.text.pieces(text)

    def _convert_token_to_id(self, token: str) -> int:
        own = self.control.get(token, self.text.id_of(token))
        return own if own is not None else int(self.text.id_of("<unk>") or 0)

    def _convert_id_to_token(self, index: int) -> str:
        if index in self._control_pieces:
            return self._control_pieces[index]
        return self.text.piece_of(index) if 0 <= index < self.text.size else ""

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self.decode_text([self._convert_token_to_id(token) for token in tokens])
