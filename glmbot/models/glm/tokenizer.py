"""GLM's two tokenizers: GPT-2's byte pairs (GLM-10B) and SentencePiece's `cog-pretrain.model` (GLM-10B-Chinese).

Control tokens are those that the folder adds to either: `[CLS]`, `[MASK]`, `[gMASK]`, `<|startofpiece|>`, …
They are unknown to the text's own vocabulary, so that no text can become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from glmbot.errors import ModelFileError
from glmbot.models.base import Vocabulary, well_formed
from glmbot.models.family import read_json
from glmbot.models.sentencepiece_text import SentencePieceText

__all__ = ["GLMTokenizer"]

_CHINESE = "cog-pretrain.model"
_NEEDED = ("[CLS]", "[MASK]", "<|endoftext|>", "<|startofpiece|>", "<|endofpiece|>")


def _byte_letters() -> dict[str, int]:
    """Which letter stands for which byte: printable ones for themselves, the others from U+0100 on.

    https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


_BYTES = _byte_letters()


class _Text(Protocol):
    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def bytes_of(self, token: int) -> bytes | None: ...


class _BytePairs:
    """GPT-2's byte-level pairs (Radford et al. 2019)."""

    def __init__(self, folder: Path) -> None:
        vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
        try:
            pairs: Any = models.BPE.from_file(str(vocabulary), str(merges))
        except Exception as error:
            # The library raises bare exceptions.
            raise ModelFileError(
                f"{folder}: neither {_CHINESE} nor readable vocab.json and merges.txt: {error}"
            ) from error
        self._pairs = Tokenizer(pairs)
        self._pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        self._pairs.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        self.size = int(self._pairs.get_vocab_size())

    def id_of(self, piece: str) -> int | None:
        return self._pairs.token_to_id(piece)

    def encode(self, text: str) -> list[int]:
        return self._pairs.encode(well_formed(text), add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._pairs.decode(list(ids), skip_special_tokens=False)

    def bytes_of(self, token: int) -> bytes | None:
        pair = self._pairs.id_to_token(token) or ""
        known = bool(pair) and all(character in _BYTES for character in pair)
        return bytes(_BYTES[character] for character in pair) if known else None


class GLMTokenizer:
    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError when a file is missing, or a control token that the model can't do without."""
        self.chinese = (folder / _CHINESE).is_file()
        text = SentencePieceText(folder / _CHINESE) if self.chinese else _BytePairs(folder)
        self._text: _Text = text
        self.control = _added_tokens(folder)
        for piece in _NEEDED:
            own = text.id_of(piece)
            if piece not in self.control and own is not None:
                self.control[piece] = own
        missing = [piece for piece in _NEEDED if piece not in self.control]
        if missing:
            raise ModelFileError(
                f"{folder / 'added_tokens.json'}: lacks {', '.join(missing)}; it is not GLM's tokenizer"
            )
        self._silent = frozenset(self.control.values())
        self.size = max(text.size, *(token + 1 for token in self._silent))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text; never a control token."""
        return [token for token in self._text.encode(text) if token not in self._silent]

    def decode_text(self, tokens: Sequence[int]) -> str:
        """Text of token ids, control tokens left out."""
        return self._text.decode([token for token in tokens if token not in self._silent])

    def vocabulary(self) -> Vocabulary:
        texts = {
            token: written
            for token in range(self._text.size)
            if token not in self._silent and (written := self._text.bytes_of(token)) is not None
        }
        return Vocabulary(texts, {token: name for name, token in self.control.items()})


def _added_tokens(folder: Path) -> dict[str, int]:
    """From added_tokens.json, or where later versions of Transformers write them."""
    added = read_json(folder / "added_tokens.json")
    settings = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    try:
        tokens = {str(entry["content"]): int(token) for token, entry in settings.items()}
        return tokens | {str(piece): int(token) for piece, token in added.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{folder / 'added_tokens.json'}: not a list of tokens with ids: {error}"
        ) from error
