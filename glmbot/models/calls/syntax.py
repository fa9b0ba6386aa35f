"""How models write that a tool is to be called: each of their formats is a `CallSyntax`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

__all__ = [
    "CallSyntax",
    "ObjectEnd",
    "Opening",
    "Region",
    "Seen",
    "Tools",
    "WrittenCall",
    "call_of",
    "json_of",
    "spaces_end",
]

Tools = Mapping[str, Mapping[str, Any]]
"""The names that may be called, with the schemas of their arguments."""

_SIGNS = re.compile(r'["{}\[\]]')
_IN_TEXT = re.compile(r'["\\]')
_NOT_SPACE = re.compile(r"\S")
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """`arguments` is a JSON object once the call is `whole`, and the beginning of one before."""

    name: str
    arguments: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Opening:
    """Of calls, from `at` on. `end`: where it ends, None while the text ends within what may become one."""

    at: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is behind an opening so far. `end`: where the text goes on, None while more may belong to it."""

    calls: Sequence[WrittenCall] = ()
    end: int | None = None
    failed: bool = False
    """It is no call at all, but words."""


class Region(Protocol):
    """One place with calls."""

    def read(self, text: str, *, ended: bool) -> Seen:
        """text: all of the answer so far. ended: nothing follows."""
        ...


class CallSyntax(Protocol):
    @property
    def tags(self) -> Sequence[str]:
        """What stands around calls, which a tokenizer may take for control tokens."""
        ...

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        """The first one at or behind `start`."""
        ...

    def region(self, start: int, tools: Tools) -> Region:
        """start: where the opening ends."""
        ...

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as a model writes it, opening included."""
        ...


@dataclass(slots=True)
class ObjectEnd:
    """Finds where a JSON object or array ends in a growing text, and reads each character once."""

    start: int
    _at: int = field(init=False)
    _depth: int = 0
    _in_text: bool = False

    def __post_init__(self) -> None:
        self._at = self.start

    def find(self, text: str) -> int | None:
        while True:
            sign = (_IN_TEXT if self._in_text else _SIGNS).search(text, self._at)
            if sign is None:
                self._at = max(self._at, len(text))
                return None
            self._at = sign.end()
            match sign[0]:
                case '"':
                    self._in_text = not self._in_text
                case "\\":
                    if self._at == len(text):
                        # What it escapes comes later.
                        self._at -= 1
                        return None
                    self._at += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return self._at


def spaces_end(text: str, start: int) -> int:
    """Where the white space at `start` ends."""
    found = _NOT_SPACE.search(text, start)
    return len(text) if found is None else found.start()


def call_of(written: object, tools: Tools) -> WrittenCall | None:
    """The call that a JSON value says; None where it says none of `tools`."""
    if not isinstance(written, dict):
        return None
    described = cast(dict[str, Any], written)
    if isinstance(inner := described.get("function"), dict):
        described = cast(dict[str, Any], inner)
    name: object = described.get("name", described.get("function"))
    if not isinstance(name, str) or name not in tools:
        return None
    arguments: object = next((described[key] for key in _ARGUMENTS if key in described), {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return None
    written_arguments = json_of(arguments)
    return None if written_arguments is None else WrittenCall(name, written_arguments)


def json_of(value: object) -> str | None:
    """None for what JSON can't say: NaN, and numbers that have become infinite."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None
