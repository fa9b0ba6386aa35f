"""Calls that are JSON by themselves: Llama 3's and Mistral's.

<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo"}}
[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}, "id": "9fQ2bX1aK"}]
[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from glmbot.models.calls.syntax import (
    ObjectEnd,
    Opening,
    Region,
    Seen,
    Tools,
    WrittenCall,
    call_of,
    spaces_end,
)
from glmbot.models.calls.tagged import begun_opening, tag_opening

__all__ = ["LlamaJson", "MistralCalls"]

_PYTHON = "<|python_tag|>"
_MISTRAL, _ARGS = "[TOOL_CALLS]", "[ARGS]"
_KEYS = ("name", "parameters", "arguments", "type", "function", "id")
_FIRST_KEY = re.compile(r'\{\s*"([^"\\]*)"?')
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,64})\s*(?:\[ARGS\]\s*)?(?=\{)")
_BEGUN_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}\s*\[?[ARGS]{0,4}\]?\s*\Z")


class LlamaJson:
    """See `CallSyntax`. The answer is the call, with or without its tag; several stand one after the other."""

    tags = (_PYTHON,)

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        at = text.find(_PYTHON, start)
        if at >= 0:
            return Opening(at, at + len(_PYTHON))
        first = spaces_end(text, start)
        if not text[:start].strip() and text.startswith("{", first):
            return Opening(first, first)
        return begun_opening(text, start, _PYTHON)

    def region(self, start: int, tools: Tools) -> Region:
        return _Objects(start, tools)

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


class _Objects:
    def __init__(self, start: int, tools: Tools) -> None:
        self._at = start
        self._tools = tools
        self._calls: list[WrittenCall] = []
        self._object: ObjectEnd | None = None

    def read(self, text: str, *, ended: bool) -> Seen:
        while True:
            if self._object is None:
                at = spaces_end(text, self._at)
                if self._calls and text.startswith((";", ","), at):
                    at = spaces_end(text, at + 1)
                if at == len(text) and not ended:
                    return Seen(self._calls)
                if not text.startswith("{", at):
                    return Seen(self._calls, self._at, failed=not self._calls)
                self._object = ObjectEnd(at)
            end = self._object.find(text)
            call = None if end is None else _call(text[self._object.start : end], self._tools)
            if end is None and not ended and _may_be_call(text, self._object.start):
                return Seen(self._calls)
            if call is None or end is None:
                return Seen(self._calls, self._at, failed=not self._calls)
            self._calls.append(call)
            self._at, self._object = end, None


def _may_be_call(text: str, start: int) -> bool:
    """An object whose first key is none of a call is an answer in JSON."""
    key = _FIRST_KEY.match(text, start)
    if key is None:
        return not text[start + 1 :].strip() or text[start + 1 :].strip() == '"'
    whole = key[0].endswith('"') and len(key[0]) > 1 and key[0].count('"') == 2
    return key[1] in _KEYS if whole else any(each.startswith(key[1]) for each in _KEYS)


class MistralCalls:
    """See `CallSyntax`. `named`: the later form, a name and its arguments."""

    tags = (_MISTRAL, _ARGS)

    def __init__(self, *, named: bool = False) -> None:
        self.named = named

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        return tag_opening(text, start, _MISTRAL)

    def region(self, start: int, tools: Tools) -> Region:
        return _List(start, tools)

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self.named:
            return f"{_MISTRAL}{name}{_ARGS}{json.dumps(arguments, ensure_ascii=False)}"
        return f"{_MISTRAL} {json.dumps([{'name': name, 'arguments': arguments}], ensure_ascii=False)}"


class _List:
    def __init__(self, start: int, tools: Tools) -> None:
        self._start = start
        self._tools = tools
        self._value: ObjectEnd | None = None
        self._name = ""

    def read(self, text: str, *, ended: bool) -> Seen:
        if self._value is None:
            at = spaces_end(text, self._start)
            if text.startswith(("[", "{"), at):
                self._value = ObjectEnd(at)
            elif (named := _NAMED.match(text, at)) is not None:
                self._name = named[1]
                self._value = ObjectEnd(named.end())
            else:
                return Seen(failed=ended or _BEGUN_NAME.match(text, at) is None)
        end = self._value.find(text)
        if end is None:
            return Seen(failed=ended)
        written = text[self._value.start : end]
        calls = _named(self._name, written, self._tools) if self._name else _calls(written, self._tools)
        return Seen(calls, end, failed=not calls)


def _read(written: str) -> object:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None


def _call(written: str, tools: Tools) -> WrittenCall | None:
    return call_of(_read(written), tools)


def _calls(written: str, tools: Tools) -> Sequence[WrittenCall]:
    """All of them, or none where one is no call."""
    value = _read(written)
    each = cast(list[object], value) if isinstance(value, list) else [value]
    calls = [call for one in each if (call := call_of(one, tools)) is not None]
    return calls if len(calls) == len(each) else ()


def _named(name: str, written: str, tools: Tools) -> Sequence[WrittenCall]:
    call = call_of({"name": name, "arguments": _read(written)}, tools)
    return () if call is None or not isinstance(_read(written), dict) else (call,)
