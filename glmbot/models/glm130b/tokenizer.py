"""GLM-130B's tokenizer: icetk's `ice_text.model`, whose ids come after 20,000 image tokens.

Unlike ChatGLM-6B's it has no pieces of its own for white space on the way in: a line break counts as a space. Its
special tokens are outside the SentencePiece model, so no text can become one.
https://github.com/THUDM/icetk
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizer

from glmbot.models.base import Vocabulary
from glmbot.models.sentencepiece_text import SentencePieceText

__all__ = ["CONTROL", "GLM130BTokenizer"]

CONTROL = ("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK")
_IMAGE_TOKENS = 20000
_NEWLINE = "<n>"
_END = "</s>"
_UNKNOWN = "<unk>"
_BREAKS = re.compile(r"\r\n?|\n")


class GLM130BTokenizer(PreTrainedTokenizer):
    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "ice_text.model"}  # pyright: ignore[reportIncompatibleVariableOverride]
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        vocab_file: str,
        num_image_tokens: int = _IMAGE_TOKENS,
        first_control_token: int | None = None,
        padding_side: str = "left",
        **kwargs: Any,
    ) -> None:
        """first_control_token: the id of `[MASK]`, which the others follow; None: right after the text's ids.

        Raises ModelFileError when vocab_file is no SentencePiece model.
        """
        self.vocab_file = vocab_file
        self.num_image_tokens = num_image_tokens
        self.text = SentencePieceText(Path(vocab_file), (*CONTROL, *(f"[{name}]" for name in CONTROL)))
        if first_control_token is None:
            first_control_token = num_image_tokens + self.text.size
        self.first_control_token = first_control_token
        self.control = {name: first_control_token + place for place, name in enumerate(CONTROL)}
        self._names = {token: name for name, token in self.control.items()}
        end, newline = self.text.id_of(_END), self.text.id_of(_NEWLINE)
        if end is not None:
            self._names[num_image_tokens + end] = _END
        self._newline = None if newline is None else num_image_tokens + newline
        # Written-out control tokens in text are text.
        kwargs.setdefault("split_special_tokens", True)
        super().__init__(
            num_image_tokens=num_image_tokens,
            first_control_token=first_control_token,
            padding_side=padding_side,
            **kwargs,
        )

    @property
    def vocab_size(self) -> int:
        return max(self.num_image_tokens + self.text.size, self.first_control_token + len(CONTROL))

    def get_vocab(self) -> dict[str, int]:
        texts = range(self.num_image_tokens, self.num_image_tokens + self.text.size)
        return {self._convert_id_to_token(token): token for token in (*texts, *self.control.values())}

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text; never a control token."""
        spaced = _BREAKS.sub(" ", text)
        return [token + self.num_image_tokens for token in self.text.encode(spaced)]

    def decode_text(self, tokens: Sequence[int]) -> str:
        """Text of token ids, control tokens and image tokens left out."""
        return self._decoded([token for token in tokens if token not in self._names])

    def decode_all(self, tokens: Sequence[int]) -> str:
        """As the published code decodes: control tokens become their names in brackets."""
        return self._decoded(tokens)

    def vocabulary(self) -> Vocabulary:
        texts: dict[int, bytes] = {}
        for own in range(self.text.size):
            token, written = own + self.num_image_tokens, self.text.bytes_of(own)
            if written is not None and token not in self._names:
                texts[token] = b"\n" if token == self._newline else written
        return Vocabulary(texts, self._names)

    def id_of(self, piece: str) -> int | None:
        if piece in self.control:
            return self.control[piece]
        own = self.text.id_of(piece)
        return None if own is None else own + self.num_image_tokens

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        return (str(self.text.save(Path(save_directory), "ice_text.model", filename_prefix)),)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`text [gMASK] sop`, and after it an answer with its `eop`."""
        tokens = [*token_ids_0, self.control["[gMASK]"], self.control["sop"]]
        return tokens if token_ids_1 is None else [*tokens, *token_ids_1, self.control["eop"]]

    def _decoded(self, tokens: Sequence[int]) -> str:
        pieces: list[str] = []
        run: list[int] = []

        def flush(written: str = "") -> None:
            if run:
                pieces.append(self.text.decode(run, begins=not pieces))
                run.clear()
            if written:
                pieces.append(written)

        for token in tokens:
            own = token - self.num_image_tokens
            if token in self._names:
                flush(f"[{self._names[token]}]")
            elif token == self._newline:
                flush("\n")
            elif 0 <= own < self.text.size:
                run.append(own)
        flush()
        return "".join(pieces)

    def _tokenize(self, text: str, **_kwargs: Any) -> list[str]:
        return [self._convert_id_to_token(token) for token in self.encode_text(text)]

    def _convert_token_to_id(self, token: str) -> int:
        image = re.fullmatch(r"<image_([0-9]+)>", token)
        if image:
            return int(image[1])
        known = self.id_of(token)
        return known if known is not None else self.num_image_tokens + int(self.text.id_of(_UNKNOWN) or 0)

    def _convert_id_to_token(self, index: int) -> str:
        if index in self._names:
            return self._names[index]
        own = index - self.num_image_tokens
        return self.text.piece_of(own) if 0 <= own < self.text.size else f"<image_{index}>"

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self.decode_all([self._convert_token_to_id(token) for token in tokens])
