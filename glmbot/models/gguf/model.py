"""A model whose configuration, vocabulary and weights are all in one GGUF file."""

from __future__ import annotations

import re
from pathlib import Path

from glmbot.errors import ModelFileError
from glmbot.models.base import ChatFormat
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.gguf.header import GgufFile, open_gguf
from glmbot.models.gguf.tokenizer import read_tokenizer, stop_tokens

__all__ = ["gguf_in", "gguf_talk"]

_WEIGHTS = (".safetensors", ".bin")
_PART = re.compile(r"-\d{5}-of-\d{5}$")


def gguf_in(path: Path) -> GgufFile | None:
    """The file at `path`, or the only one in the folder there, if it holds no other weights.

    Raises ModelFileError.
    """
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _whole(path)
    if not path.is_dir():
        return None
    files = sorted(path.iterdir())
    found = [file for file in files if file.suffix.lower() == ".gguf" and not file.name.startswith("mmproj")]
    if not found or any(file.suffix in _WEIGHTS and not file.name.startswith("adapter_") for file in files):
        return None
    if len(found) > 1 and not _PART.search(found[0].stem):
        names = ", ".join(file.name for file in found[:4])
        raise ModelFileError(
            f"{path}: has {len(found)} GGUF files ({names}); let [model] path name one of them"
        )
    return _whole(found[0])


def _whole(path: Path) -> GgufFile:
    if _PART.search(path.stem):
        raise ModelFileError(
            f"{path}: a part of a model; join the parts with llama.cpp's llama-gguf-split --merge, and name the"
            " result"
        )
    return open_gguf(path)


def gguf_talk(file: GgufFile, vocabulary: int, *, thinks: bool) -> tuple[ChatFormat, frozenset[int]]:
    """The chat format, and the tokens that end an answer. Raises ModelFileError."""
    return TemplateChatFormat(read_tokenizer(file, vocabulary), thinks=thinks), stop_tokens(file)
