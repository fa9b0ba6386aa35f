"""Calls whose name is a line of its own: GLM-4's with JSON behind it, ChatGLM3's with a line of Python.

weather
{"city": "Oslo"}

weather
 ```python
tool_call(city='Oslo')
```
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Mapping
from typing import Any, cast

from glmbot.models.calls.syntax import (
    ObjectEnd,
    Opening,
    Region,
    Seen,
    Tools,
    WrittenCall,
    json_of,
    spaces_end,
)

__all__ = ["NameAndCode", "NameAndJson"]

_FENCE = re.compile(r"\s*```(?:python)?\s*tool_call\s*(?=\()")
_BEGUN_FENCE = re.compile(r"\s*(?:`{0,3}|```(?:p|py|pyt|pyth|pytho|python)?\s*[tol_ca]{0,9}\s*)\Z")
_FENCE_END = re.compile(r"\)\s*```")
# A tool may well have an argument `from`, which is none in Python.
_KEYWORD = re.compile(rf"(?<=[(,\s])(?=(?:{'|'.join(keyword.kwlist)})\s*=(?!=))")
_LONGEST_CODE = 65_536


def _named_line(text: str, start: int, tools: Tools) -> Opening | None:
    """The first line that is nothing but the name of a tool."""
    line = text.rfind("\n", 0, start) + 1 if start else 0
    if text[line:start].strip():
        # Its beginning was said already.
        line = text.find("\n", start) + 1 or len(text)
    while line < len(text):
        end = text.find("\n", line)
        said = text[line : end if end >= 0 else len(text)].strip()
        if end >= 0 and said in tools:
            return Opening(spaces_end(text, line), end + 1)
        if end < 0:
            held = said and any(name.startswith(said) for name in tools)
            return Opening(spaces_end(text, line)) if held else None
        line = end + 1
    return None


class NameAndJson:
    """See `CallSyntax`."""

    tags = ()

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        return _named_line(text, start, tools)

    def region(self, start: int, tools: Tools) -> Region:
        return _Json(start, tools)

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{name}\n{json.dumps(arguments, ensure_ascii=False)}"


class NameAndCode:
    """See `CallSyntax`."""

    tags = ()

    def opening(self, text: str, start: int, tools: Tools) -> Opening | None:
        return _named_line(text, start, tools)

    def region(self, start: int, tools: Tools) -> Region:
        return _Code(start, tools)

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        return f"{name}\n {self.code(arguments)}"

    def code(self, arguments: Mapping[str, Any]) -> str:
        said = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        return f"```python\ntool_call({said})\n```"


class _Named:
    def __init__(self, start: int, tools: Tools) -> None:
        self._start = start
        self._tools = tools

    def _name(self, text: str) -> str:
        before = text[: self._start].rstrip()
        return before[before.rfind("\n") + 1 :].strip()


class _Json(_Named):
    def __init__(self, start: int, tools: Tools) -> None:
        super().__init__(start, tools)
        self._object: ObjectEnd | None = None

    def read(self, text: str, *, ended: bool) -> Seen:
        if self._object is None:
            at = spaces_end(text, self._start)
            if at == len(text):
                return Seen(failed=ended)
            if text[at] != "{":
                return Seen(failed=True)
            self._object = ObjectEnd(at)
        end = self._object.find(text)
        if end is None:
            return Seen(failed=ended)
        try:
            arguments = cast(object, json.loads(text[self._object.start : end]))
        except (ValueError, RecursionError):
            return Seen(failed=True)
        written = json_of(arguments) if isinstance(arguments, dict) else None
        if written is None:
            return Seen(failed=True)
        return Seen((WrittenCall(self._name(text), written),), end)


class _Code(_Named):
    def __init__(self, start: int, tools: Tools) -> None:
        super().__init__(start, tools)
        self._from = start

    def read(self, text: str, *, ended: bool) -> Seen:
        fence = _FENCE.match(text, self._start)
        if fence is None:
            return Seen(failed=ended or _BEGUN_FENCE.match(text, self._start) is None)
        if len(text) - fence.end() > _LONGEST_CODE:
            return Seen(failed=True)
        while (closing := _FENCE_END.search(text, max(self._from, fence.end()))) is not None:
            arguments = _keywords(text[fence.end() : closing.start() + 1])
            if arguments is not None:
                return Seen((WrittenCall(self._name(text), arguments),), closing.end())
            # It may stand within a text.
            self._from = closing.start() + 1
        return Seen(failed=ended)


def _keywords(code: str) -> str | None:
    """`(city='Oslo')` as JSON. Nothing of it is run: names and literals are read, and no more."""
    try:
        # In the code itself it is nowhere, so that it can be taken out of whatever it comes into.
        mark = "named" + "_" * (1 + max(map(len, re.findall("_+", code)), default=0))
        parsed = ast.parse(f"f{_KEYWORD.sub(mark, code)}", mode="eval").body
        if not isinstance(parsed, ast.Call) or parsed.args:
            return None
        read = {word.arg: cast(object, ast.literal_eval(word.value)) for word in parsed.keywords if word.arg}
        if len(read) < len(parsed.keywords):
            return None
        return json.dumps(read, ensure_ascii=False, allow_nan=False).replace(mark, "")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
