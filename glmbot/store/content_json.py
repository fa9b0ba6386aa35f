"""What a turn is made of, as JSON, where that is more than words: the parts of its question and of its answer.

A part of a kind that only a later release knows is dropped, and with a call its result; so is a field that only
that one knows. A wrong value is refused by its field's name and not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from glmbot.content import (
    MOST_PARTS,
    Content,
    Media,
    MediaKind,
    Part,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    checked,
)
from glmbot.store.message_json import Stored, kept_json, read_as

__all__ = ["parts_from_json", "parts_to_json"]


class _Words(Stored):
    text: str


class _Media(Stored):
    media_type: str
    digest: str
    size: int
    name: str = ""


class _Call(Stored):
    id: str
    name: str
    arguments: str = "{}"


class _Result(Stored):
    id: str
    text: str
    failed: bool = False


class _Parts(Stored):
    asked: list[dict[str, Any]] = Field(default=[], max_length=MOST_PARTS)
    said: list[dict[str, Any]] = Field(default=[], max_length=MOST_PARTS)


_TYPE = "type"
_WORDS: Mapping[str, type[Text | Thought]] = {"text": Text, "thought": Thought}
_MEDIA = frozenset(str(kind) for kind in MediaKind)


def parts_to_json(asked: Content, said: Content) -> str:
    """ "" where both are nothing but text, which stands in the turn anyway."""
    if all(isinstance(part, Text) for part in (*asked, *said)) and max(len(asked), len(said)) < 2:
        return ""
    return json.dumps(
        {"asked": [_written(part) for part in asked], "said": [_written(part) for part in said]}
    )


def parts_from_json(written: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """What was asked and what was said; neither for "". Raises ValueError for what are no parts."""
    if not written:
        return (), ()
    found = read_as(_Parts, kept_json(written), "parts")
    return _read(found.asked), _read(found.said)


def _written(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            kind = "text"
        case Thought():
            kind = "thought"
        case Media():
            kind = str(part.kind)
        case ToolCall():
            kind = "call"
        case ToolResult():
            kind = "result"
    fields = asdict(part)
    fields.pop("kind", None)
    return {_TYPE: kind, **fields}


def _read(written: list[dict[str, Any]]) -> tuple[Part, ...]:
    called: set[str] = set()
    found: list[Part] = []
    for each in written:
        match each.get(_TYPE):
            case str(kind) if kind in _WORDS:
                found.append(_WORDS[kind](read_as(_Words, each, "a part").text))
            case str(kind) if kind in _MEDIA:
                found.append(Media(MediaKind(kind), **dict(read_as(_Media, each, "a part"))))
            case "call":
                found.append(call := ToolCall(**dict(read_as(_Call, each, "a part"))))
                called.add(call.id)
            case "result":
                result = ToolResult(**dict(read_as(_Result, each, "a part")))
                if result.id in called:
                    found.append(result)
            case _:
                pass
    return checked(found)
