"""A message of OneBot 11 as its segments, in whichever of its two formats it came.

https://github.com/botuniverse/onebot-11/blob/master/message/array.md and string.md (CQ codes). We send segments
alone: in the text of one nothing is a code, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

__all__ = ["Segment", "media_of", "segments", "words_of"]

_MOST_SEGMENTS = 500
_LONGEST_VALUE = 100_000
_CODE = re.compile(r"\[CQ:(?P<type>[A-Za-z0-9_.-]{1,32})(?P<data>(?:,[^\[\],]*)*)\]")
# https://github.com/botuniverse/onebot-11/blob/master/message/string.md#转义
_ESCAPES = (("&#91;", "["), ("&#93;", "]"), ("&#44;", ","), ("&amp;", "&"))

# What else can be in a message (https://github.com/botuniverse/onebot-11/blob/master/message/segment.md, and what
# NapCat and go-cqhttp add), under the names that other platforms have for it.
_MEDIA = {
    "image": "photo",
    "record": "voice",
    "video": "video",
    "file": "document",
    "face": "sticker",
    "mface": "sticker",
    "rps": "dice",
    "dice": "dice",
    "location": "location",
    "contact": "contact",
    "music": "audio",
    "share": "link",
    "json": "card",
    "xml": "card",
    "forward": "forward",
}


@dataclass(frozen=True, slots=True)
class Segment:
    type: str
    data: Mapping[str, str]


def segments(message: object) -> Sequence[Segment]:
    """Raises ValueError for what is no message."""
    if isinstance(message, str):
        return _parsed(message)
    if isinstance(message, dict):
        message = [cast(object, message)]
    if not isinstance(message, list):
        raise ValueError(f"a message is a list or text, not {type(message).__name__}")
    return [_segment(each) for each in cast(list[object], message)[:_MOST_SEGMENTS]]


def words_of(parts: Sequence[Segment]) -> str:
    """What it says to a reader who sees words alone."""
    return "".join(_words(part) for part in parts).strip()


def media_of(parts: Sequence[Segment]) -> str:
    """The name of the first thing that can't be read, "" where all can."""
    return next((_MEDIA[part.type] for part in parts if part.type in _MEDIA), "")


def _words(part: Segment) -> str:
    match part.type:
        case "text":
            return part.data.get("text", "")
        case "at":
            return f"@{part.data.get('name') or part.data.get('qq', '')} "
        case _:
            return ""


def _segment(given: object) -> Segment:
    if not isinstance(given, dict):
        raise ValueError("a segment is an object")
    fields = cast(dict[str, object], given)
    kind, data = fields.get("type"), fields.get("data")
    if not isinstance(kind, str):
        raise ValueError("a segment has a type")
    values = cast(dict[str, object], data) if isinstance(data, dict) else {}
    return Segment(
        kind,
        {
            key: str(value)[:_LONGEST_VALUE]
            for key, value in values.items()
            if isinstance(value, str | int) and not isinstance(value, bool)
        },
    )


def _parsed(text: str) -> Sequence[Segment]:
    parts: list[Segment] = []
    end = 0
    for match in _CODE.finditer(text):
        if match.start() > end:
            parts.append(_text(text[end : match.start()]))
        pairs = (each.partition("=") for each in match["data"].split(",")[1:])
        parts.append(Segment(match["type"], {key.strip(): _unescaped(value) for key, _, value in pairs}))
        end = match.end()
        if len(parts) >= _MOST_SEGMENTS:
            return parts
    if end < len(text):
        parts.append(_text(text[end:]))
    return parts


def _text(text: str) -> Segment:
    return Segment("text", {"text": _unescaped(text)})


def _unescaped(text: str) -> str:
    for code, sign in _ESCAPES:
        text = text.replace(code, sign)
    return text
