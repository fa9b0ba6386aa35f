"""Plain text to SentencePiece ids and back, with some pieces kept out of text's reach."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from sentencepiece import SentencePieceProcessor

from glmbot.errors import ModelFileError
from glmbot.models.base import well_formed
from glmbot.models.foreign import refuse_tiktoken

__all__ = ["SentencePieceText"]

# A model file is a protocol buffer, in which a field that comes again overrides the earlier one: here
# normalizer_spec (3) with add_dummy_prefix (3) and remove_extra_whitespaces (4) false.
# https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
_WITHIN_A_SENTENCE = bytes([3 << 3 | 2, 4, 3 << 3, 0, 4 << 3, 0])

_SPACE = "▁"


class SentencePieceText:
    """One model file. Text is encoded as it is, but never to one of the `forbidden` pieces."""

    def __init__(self, file: Path, forbidden: Iterable[str] = ()) -> None:
        """Raises ModelFileError when the file is not a SentencePiece model."""
        self.file = file
        self._whole = _open(file)
        self._inner = _open(file, _WITHIN_A_SENTENCE)
        self.size = int(self._whole.vocab_size())
        self._forbidden = {token: piece for piece in forbidden if (token := self.id_of(piece)) is not None}

    def id_of(self, piece: str) -> int | None:
        """None when the model has no such piece."""
        token = int(self._whole.PieceToId(str(piece)))
        return token if str(self._whole.IdToPiece(token)) == str(piece) else None

    def piece_of(self, token: int) -> str:
        return str(self._whole.IdToPiece(token))

    def pieces(self, text: str) -> list[str]:
        return [self.piece_of(token) for token in self.encode(text)]

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """`begins` is false for text that goes on in the middle of a sentence."""
        ids = cast(list[int], (self._whole if begins else self._inner).EncodeAsIds(well_formed(text)))
        if not any(token in self._forbidden for token in ids):
            return ids
        plain: list[int] = []
        for token in ids:
            surface = self._forbidden.get(token)
            if surface is None:
                plain.append(token)
            else:
                # Cut inside, so that it can't become that piece again.
                plain += self._inner.EncodeAsIds(surface[:1]) + self._inner.EncodeAsIds(surface[1:])
        return plain

    def decode(self, ids: Sequence[int], *, begins: bool = True) -> str:
        """Half characters come out as U+FFFD."""
        return str((self._whole if begins else self._inner).DecodeIds(list(ids)))

    def bytes_of(self, token: int) -> bytes | None:
        """None for what is no text: control, unknown and unused pieces."""
        whole = self._whole
        if whole.IsControl(token) or whole.IsUnknown(token) or whole.IsUnused(token):
            return None
        piece = self.piece_of(token)
        if whole.IsByte(token):
            # "<0x41>"
            return bytes([int(piece[3:5], 16)])
        return piece.replace(_SPACE, " ").encode()

    def save(self, folder: Path, name: str, prefix: str | None = None) -> Path:
        """Copy the model file; where to is returned."""
        target = folder / (f"{prefix}-{name}" if prefix else name)
        if target.resolve() != self.file.resolve():
            shutil.copyfile(self.file, target)
        return target


def _open(file: Path, overrides: bytes = b"") -> Any:
    processor: Any = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(file.read_bytes() + overrides)
    except (OSError, RuntimeError) as error:
        refuse_tiktoken(file)
        words = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise ModelFileError(f"{file}: not a SentencePiece model ({words}); download it again") from error
    return processor
