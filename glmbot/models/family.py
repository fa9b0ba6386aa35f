"""What a model family of our own says of a folder that is one of its members."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glmbot.errors import ModelFileError
from glmbot.models.base import ChatFormat
from glmbot.models.positions import PositionScheme

__all__ = [
    "MOST_JSON_BYTES",
    "FamilyTokenizer",
    "first_line",
    "read_json",
    "refuse_monsters",
    "refuse_odd_files",
    "shortened",
    "token_numbers",
]

MOST_JSON_BYTES = 4 << 20
# Vocabularies of a million words and indexes of ten thousand tensors are published.
_MOST_BYTES = {
    "tokenizer.json": 128 << 20,
    "config.json": MOST_JSON_BYTES,
    "generation_config.json": MOST_JSON_BYTES,
}
_MOST_BYTES_OF = {".json": 64 << 20, ".txt": 64 << 20, ".model": 64 << 20, ".jinja": 1 << 20}
_LONGEST_REASON = 500
_MOST_LAYERS = 2_000
"""Each is an object of its own before a single weight is read."""
_MOST_EXPERTS = 1 << 15
# Names of counts: experts and layers have sizes, too.
_COUNTED = re.compile(r"^(?!.*(size|dim|index|capacity)).*(layer|expert)")
_COUNTS = ("num_hidden_layers", "num_layers", "num_attention_heads", "num_key_value_heads", "hidden_size",
           "head_dim", "vocab_size")  # fmt: skip
_LARGEST_SIZE = 2**32


@dataclass(frozen=True, slots=True)
class FamilyTokenizer:
    chat_format: ChatFormat
    stop_tokens: frozenset[int]
    generation_defaults: dict[str, Any]
    positions: PositionScheme | None = None
    """Where the tokenizer decides it; otherwise the model knows its own."""


def token_numbers(value: object, file: Path) -> frozenset[int]:
    """What `file` says of the tokens that end an answer: none, one, or a list. Raises ModelFileError."""
    some = cast(list[object], value) if isinstance(value, list) else [] if value is None else [value]
    numbers = [token for token in some if isinstance(token, int) and not isinstance(token, bool)]
    if len(numbers) < len(some):
        raise ModelFileError(
            f"{file}: eos_token_id is {shortened(repr(value))}, which is no token's number and no list of such"
        )
    return frozenset(numbers)


def read_json(file: Path, most_bytes: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """The object in `file`, or an empty one when there is no such file. Raises ModelFileError."""
    if not file.is_file():
        return {}
    try:
        size = file.stat().st_size
        if size > most_bytes:
            raise ModelFileError(f"{file}: has {size} bytes, at most {most_bytes} are read")
        fields = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ModelFileError(f"{file}: not a JSON object")
    return cast(dict[str, Any], fields)


def refuse_odd_files(folder: Path) -> None:
    """Libraries read what lies in a folder whole, and some of it without being asked.

    Raises ModelFileError for a file that is none (a pipe, a device), or too large for what it is.
    """
    for file in sorted(folder.iterdir()):
        most = _MOST_BYTES.get(file.name, _MOST_BYTES_OF.get(file.suffix))
        if most is None or file.is_dir() or not file.exists():
            continue
        if not file.is_file():
            raise ModelFileError(f"{file}: not a regular file")
        if (size := file.stat().st_size) > most:
            raise ModelFileError(f"{file}: has {size} bytes, at most {most} are read")


def refuse_monsters(path: Path, fields: dict[str, Any]) -> None:
    """A broken number could ask for billions of layers, and would be met only after hours.

    fields: of config.json at `path`. Raises ModelFileError.
    """
    for name, value in fields.items():
        if isinstance(value, dict):
            refuse_monsters(path, cast(dict[str, Any], value))
        if name in _COUNTS and isinstance(value, int) and value < 1:
            raise ModelFileError(f"{path}: {name} is {value}, and must be above 0")
        counted, most = _COUNTED.search(name), _LARGEST_SIZE
        if counted:
            most = _MOST_EXPERTS if "expert" in name else _MOST_LAYERS
        if (isinstance(value, int) or (counted and isinstance(value, float))) and abs(value) > most:
            raise ModelFileError(f"{path}: {name} is {value}, which no model has")


def first_line(error: BaseException) -> str:
    """What a library says of a file, in so many words as a person reads."""
    return shortened((str(error).strip().splitlines() or [type(error).__name__])[0])


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} …"
