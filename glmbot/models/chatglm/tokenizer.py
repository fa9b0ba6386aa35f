"""ChatGLM-6B's tokenizer: SentencePiece's `ice_text.model` with pieces of its own for white space.

A newline is `<n>`, a tab `<|tab|>`, and 2 to 80 spaces are `<|blank_N|>`. Ids are the model's, after
`num_image_tokens` that the first revision has in front (20000) and the final one has not (0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from transformers import PreTrainedTokenizer

from glmbot.errors import ModelFileError
from glmbot.models.base import Vocabulary
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.models.sentencepiece_text import SentencePieceText

__all__ = ["CONTROL", "ChatGLMTokenizer"]

CONTROL = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")

_NEWLINE, _TAB = "<n>", "<|tab|>"
_MOST_SPACES = 80
_BLANK = "<|blank_{}|>"
_SPACES = re.compile(f" {{2,{_MOST_SPACES}}}")
_WRITTEN_OUT = re.compile(r"<n>|<\|tab\|>|<\|blank_[0-9]+\|>")


class ChatGLMTokenizer(PreTrainedTokenizer):
    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "ice_text.model"}  # pyright: ignore[reportIncompatibleVariableOverride]
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        vocab_file: str,
        do_lower_case: bool = False,
        remove_space: bool = False,
        bos_token: str = "<sop>",
        eos_token: str = "<eop>",
        end_token: str = "</s>",
        mask_token: str = "[MASK]",
        gmask_token: str = "[gMASK]",
        pad_token: str = "<pad>",
        unk_token: str = "<unk>",
        num_image_tokens: int = 20000,
        padding_side: str = "left",
        **kwargs: Any,
    ) -> None:
        """Raises ModelFileError when vocab_file is not a model with the pieces of ChatGLM-6B."""
        self.vocab_file = vocab_file
        self.num_image_tokens = num_image_tokens
        self.text = SentencePieceText(Path(vocab_file), CONTROL)
        whitespace = {"\n": _NEWLINE, "\t": _TAB}
        whitespace |= {" " * count: _BLANK.format(count) for count in range(2, _MOST_SPACES + 1)}
        self._whitespace = {self._required(piece): text for text, piece in whitespace.items()}
        self._control = frozenset(
            token
            for piece in (*CONTROL, pad_token, end_token)
            if (token := self.text.id_of(piece)) is not None
        )
        for piece in (bos_token, eos_token, mask_token, gmask_token):
            self._required(piece)
        self.do_lower_case = do_lower_case
        self.remove_space = remove_space
        # Written-out control tokens in text are text.
        kwargs.setdefault("split_special_tokens", True)
        super().__init__(
            do_lower_case=do_lower_case,
            remove_space=remove_space,
            bos_token=bos_token,
            eos_token=eos_token,
            end_token=end_token,
            mask_token=mask_token,
            gmask_token=gmask_token,
            pad_token=pad_token,
            unk_token=unk_token,
            num_image_tokens=num_image_tokens,
            padding_side=padding_side,
            **kwargs,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *inputs: Any, **kwargs: Any) -> Any:
        """All generations are published with this class's name; the vocabulary's file tells them apart."""
        folder = Path(pretrained_model_name_or_path)
        later = folder / ChatGLM2Tokenizer.vocab_files_names["vocab_file"]
        if later.is_file() and not (folder / cls.vocab_files_names["vocab_file"]).is_file():
            return ChatGLM2Tokenizer.from_pretrained(folder, *inputs, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *inputs, **kwargs)

    @property
    def vocab_size(self) -> int:
        return self.num_image_tokens + self.text.size

    def get_vocab(self) -> dict[str, int]:
        ids = range(self.num_image_tokens, self.vocab_size)
        return {self._convert_id_to_token(token): token for token in ids} | self.added_tokens_encoder

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text; never a control token."""
        if self.remove_space:
            text = " ".join(text.split())
        if self.do_lower_case:
            text = text.lower()
        ids: list[int] = []
        start = 0
        # "<n>" in a text is three characters of it, not a newline.
        for written in _WRITTEN_OUT.finditer(text):
            ids += self.text.encode(_spell_whitespace(text[start : written.start() + 1]), begins=start == 0)
            start = written.start() + 1
        ids += self.text.encode(_spell_whitespace(text[start:]), begins=start == 0)
        return [token + self.num_image_tokens for token in ids]

    def decode_text(self, tokens: Sequence[int]) -> str:
        """Text of token ids, control tokens and image tokens left out."""
        pieces: list[str] = []
        run: list[int] = []
        for token in tokens:
            own = token - self.num_image_tokens
            space = self._whitespace.get(own)
            if space is not None:
                pieces += (self.text.decode(run, begins=not pieces), space)
                run = []
            elif 0 <= own < self.text.size and own not in self._control:
                run.append(own)
        pieces.append(self.text.decode(run, begins=not pieces))
        return "".join(pieces)

    def vocabulary(self) -> Vocabulary:
        first = self.num_image_tokens
        texts = {
            first + own: written
            for own in range(self.text.size)
            if own not in self._control and (written := self.text.bytes_of(own)) is not None
        }
        texts |= {first + own: space.encode() for own, space in self._whitespace.items()}
        return Vocabulary(texts, {first + own: self.text.piece_of(own) for own in self._control})

    def id_of(self, piece: str) -> int | None:
        own = self.text.id_of(piece)
        return None if own is None else own + self.num_image_tokens

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`text [gMASK] <sop>`, and after it an answer with its `<eop>`."""
        tokens = [*token_ids_0, cast(int, self.id_of("[gMASK]")), cast(int, self.bos_token_id)]
        return tokens if token_ids_1 is None else [*tokens, *token_ids_1, cast(int, self.eos_token_id)]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        return (str(self.text.save(Path(save_directory), "ice_text.model", filename_prefix)),)

    def _required(self, piece: str) -> int:
        token = self.text.id_of(piece)
        if token is None:
            raise ModelFileError(
                f"{self.text.file}: has no piece {piece}; it is not ChatGLM-6B's ice_text.model,"
                " or one of its first days (download the present one)"
            )
        return token

    def _tokenize(self, text: str, **_kwargs: Any) -> list[str]:
        return [self._convert_id_to_token(token) for token in self.encode_text(text)]

    def _convert_token_to_id(self, token: str) -> int:
        image = re.fullmatch(r"<image_([0-9]+)>", token)
        if image:
            return int(image[1])
        own = self.id_of(token)
        return own if own is not None else self.num_image_tokens + int(self.text.id_of("<unk>") or 0)

    def _convert_id_to_token(self, index: int) -> str:
        if index < self.num_image_tokens:
            return f"<image_{index}>"
        return self.text.piece_of(index - self.num_image_tokens)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self.decode_text([self._convert_token_to_id(token) for token in tokens])


def _spell_whitespace(text: str) -> str:
    text = text.replace("\n", _NEWLINE).replace("\t", _TAB)
    return _SPACES.sub(lambda spaces: _BLANK.format(len(spaces[0])), text)
