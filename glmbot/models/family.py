"""What a model family of our own says of a folder that is one of its members."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glmbot.errors import ModelFileError
from glmbot.models.base import ChatFormat
from glmbot.models.positions import PositionScheme

__all__ = ["FamilyTokenizer", "read_json"]


@dataclass(frozen=True, slots=True)
class FamilyTokenizer:
    chat_format: ChatFormat
    stop_tokens: frozenset[int]
    generation_defaults: dict[str, Any]
    positions: PositionScheme | None = None
    """Where the tokenizer decides it; otherwise the model knows its own."""


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`, or an empty one when there is no such file. Raises ModelFileError."""
    if not file.is_file():
        return {}
    try:
        fields = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ModelFileError(f"{file}: not a JSON object")
    return cast(dict[str, Any], fields)
