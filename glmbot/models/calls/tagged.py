"""Calls between tags: Hermes' and Qwen's JSON, and GLM-4.5's keys and values.

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>

    <tool_call>weather
    <arg_key>city</arg_key>
    <arg_value>Oslo</arg_value>
    </tool_call>

Both have the same opening, so that whoever writes the one is also read when it writes the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from glmbot.models.calls.syntax import (
    ObjectEnd,
    Opening,
    Region,
    Seen,
    Tools,
    WrittenCall,
    call_of,
    json_of,
    spaces_end,
)

__all__ = ["OPENING_CALL", "KeysAndValues", "TaggedJson", "begun_opening", "tag_opening"]

OPENING_CALL, _CLOSING = "<tool_call>", "</tool_call>"
_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
_NAME = re.compile(r"\s*([A-Za-z0-9_-]{1,64})\s*(?=<|$)")
_BEGUN_NAME = re.compile(r"\s*[A-Za-z0-9_-]{0,64}\s*\Z")
_PAIR = re.compile(rf"\s*{_KEY}([^<]*){_KEY_END}\s*{_VALUE}(.*?){_VALUE_END}", re.DOTALL)

# How often the closing tag may stand within values.
_MOST_TRIES = 16
_LONGEST_NAME = 256


def tag_opening(text: str, start: int, tag: str) -> Opening | None:
    """The first whole one, or what the end of the text is the beginning of."""
    at = text.find(tag, start)
    return Opening(at, at + len(tag)) if at >= 0 else begun_opening(text, start, tag)


def begun_opening(text: str, start: int, tag: str) -> Opening | None:
    for at in range(max(start, len(text) - len(tag) + 1), len(text)):
        if tag.startswith(text[at:]):
            return Opening(at)
    return None


class _Tagged:
    tags = (OPENING_CALL, _CLOSING, _KEY, _KEY_END, _VALUE, _VALUE_END)

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        return tag_opening(text, start, OPENING_CALL)

    def region(self, start: int, tools: Tools) -> Region:
        return _Either(start, tools)


class TaggedJson(_Tagged):
    """See `CallSyntax`."""

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        return f"{OPENING_CALL}\n{said}\n{_CLOSING}"


class KeysAndValues(_Tagged):
    """See `CallSyntax`."""

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        lines = [f"{OPENING_CALL}{name}"]
        for key, value in arguments.items():
            said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines += (f"{_KEY}{key}{_KEY_END}", f"{_VALUE}{said}{_VALUE_END}")
        return "\n".join([*lines, _CLOSING])


@dataclass(slots=True)
class _Either:
    """See `Region`. What comes first tells which of the two it is."""

    start: int
    tools: Tools
    _inner: Region | None = field(default=None)

    def read(self, text: str, *, ended: bool) -> Seen:
        if self._inner is None:
            at = spaces_end(text, self.start)
            if at == len(text):
                return Seen(failed=ended)
            self._inner = _Json(at, self.tools) if text[at] == "{" else _Pairs(at, self.tools)
        return self._inner.read(text, ended=ended)


class _Json:
    def __init__(self, start: int, tools: Tools) -> None:
        self._object = ObjectEnd(start)
        self._tools = tools
        self._end: int | None = None
        self._call: WrittenCall | None = None

    def read(self, text: str, *, ended: bool) -> Seen:
        if self._call is None:
            self._end = self._object.find(text)
            if self._end is None:
                return Seen(failed=ended)
            self._call = _parsed(text[self._object.start : self._end], self._tools)
            if self._call is None:
                return Seen(failed=True)
        return Seen((self._call,), _behind(text, cast(int, self._end), ended=ended))


class _Pairs:
    def __init__(self, start: int, tools: Tools) -> None:
        self._start = start
        self._looked = start
        self._tools = tools
        self._tried = 0

    def read(self, text: str, *, ended: bool) -> Seen:
        name = _NAME.match(text, self._start)
        if name is None or name[1] not in self._tools:
            may_become = not ended and _BEGUN_NAME.match(text, self._start) is not None
            return Seen(failed=not may_become or len(text) - self._start > _LONGEST_NAME)
        end = text.find(_CLOSING, self._looked)
        if end < 0:
            self._looked = max(self._looked, len(text) - len(_CLOSING) + 1)
            if not ended:
                return Seen()
            end = len(text)
        # A value may hold the closing tag as text; pairs are read as far as they go.
        arguments: dict[str, Any] = {}
        at = name.end()
        properties = cast(dict[str, Any], self._tools[name[1]].get("properties") or {})
        while (pair := _PAIR.match(text, at)) is not None:
            arguments[pair[1].strip()] = _value(pair[2], properties.get(pair[1].strip()))
            at = pair.end()
        at = spaces_end(text, at)
        if not text.startswith(_CLOSING, at) and not (ended and at == len(text)):
            # Within a value, which goes on, or something else.
            self._looked = max(end + len(_CLOSING), at)
            self._tried += 1
            goes_on = text.startswith(_KEY, at) or any(tag.startswith(text[at:]) for tag in (_KEY, _CLOSING))
            return Seen(failed=ended or not goes_on or self._tried > _MOST_TRIES)
        call = WrittenCall(name[1], json.dumps(arguments, ensure_ascii=False))
        return Seen((call,), min(len(text), at + len(_CLOSING)))


def _value(written: str, schema: object) -> object:
    """A text stands there as it is, anything else as JSON."""
    kind: object = cast(dict[str, object], schema).get("type") if isinstance(schema, dict) else None
    if kind == "string":
        return written
    try:
        value: object = json.loads(written, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return written
    return written if json_of(value) is None else value


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _parsed(written: str, tools: Tools) -> WrittenCall | None:
    try:
        return call_of(json.loads(written, parse_constant=_refuse), tools)
    except (ValueError, RecursionError):
        return None


def _behind(text: str, end: int, *, ended: bool) -> int | None:
    """Behind the closing tag that follows, and where there is none, behind the call."""
    at = spaces_end(text, end)
    if text.startswith(_CLOSING, at):
        return at + len(_CLOSING)
    return end if ended or not _CLOSING.startswith(text[at:]) else None
