"""Plain text to SentencePiece ids and back, with some pieces kept out of text's reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from sentencepiece import SentencePieceProcessor

from glmbot.errors import ModelFileError

__all__ = ["SentencePieceText"]


class SentencePieceText:
    """One model file. Text is encoded as it is, but never to one of the `forbidden` pieces."""

    def __init__(self, file: Path, forbidden: Iterable[str] = ()) -> None:
        """Raises ModelFileError when the file is not a SentencePiece model."""
        self.file = file
        self._whole = _open(file)
        # Within a sentence: no dummy space in front, and no space taken away.
        self._inner = _open(file)
        self._inner.override_normalizer_spec(add_dummy_prefix=False, remove_extra_whitespaces=False)
        self.size = int(self._whole.vocab_size())
        self._forbidden = {token: piece for piece in forbidden if (token := self.id_of(piece)) is not None}

    def id_of(self, piece: str) -> int | None:
        """None when the model has no such piece."""
        token = int(self._whole.PieceToId(piece))
        return token if str(self._whole.IdToPiece(token)) == piece else None

    def piece_of(self, token: int) -> str:
        return str(self._whole.IdToPiece(token))

    def pieces(self, text: str) -> list[str]:
        return [self.piece_of(token) for token in self.encode(text)]

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """`begins` is false for text that goes on in the middle of a sentence."""
        ids = cast(list[int], (self._whole if begins else self._inner).EncodeAsIds(text))
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


def _open(file: Path) -> Any:
    processor: Any = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(file.read_bytes())
    except (OSError, RuntimeError) as error:
        words = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise ModelFileError(f"{file}: not a SentencePiece model ({words}); download it again") from error
    return processor
