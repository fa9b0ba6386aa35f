"""What a server asks a person in the middle of a call: yes or no, or one of a few, by buttons; words and numbers
as their next message there (https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation)."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from glmbot.host import ToolUse
from glmbot_mcp.listing import in_one_line

__all__ = ["Field", "answered", "fields_of"]

# With our own two buttons they are five, which is as many as a tool may show.
_MOST_FIELDS, _MOST_CHOICES, _MOST_LISTED = 4, 4, 20
_LONGEST_QUESTION, _LONGEST_CHOICE, _LONGEST_TITLE = 500, 28, 60
_LONGEST_TEXT = 2_000
# What can't be seen as a whole can't be chosen from.
_LONGEST_LIST = 90
_TRIES = 2
_LARGEST = 1e15
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3}){2,}(\.\d+)?|[+-]?\d{1,3},\d{3}\.\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """`choices`: what stands on each button, and its value; `listed`: what may be typed, anything where it is
    empty. `kind` is that of JSON schema; `least` and `most` bound a number, or the length of a text."""

    name: str
    title: str
    required: bool
    choices: Sequence[tuple[str, Any]] = ()
    listed: Sequence[tuple[str, str]] = ()
    kind: str = "string"
    least: float = -_LARGEST
    most: float = _LARGEST

    @property
    def typed(self) -> bool:
        return not self.choices

    def read(self, text: str) -> Any:
        """Raises ValueError for what it can't be."""
        if self.listed:
            value = next(
                (value for shown, value in self.listed if text.casefold() in (shown.casefold(), value)), None
            )
            if value is None:
                raise ValueError(text)
            return value
        if self.kind == "string":
            if not self.least <= len(text) <= min(self.most, _LONGEST_TEXT):
                raise ValueError(text)
            return text
        # A comma may part a decimal fraction as well: only what can't is taken for thousands.
        number = float(text.replace(",", "") if _THOUSANDS.fullmatch(text) else text)
        if not math.isfinite(number) or not self.least <= number <= self.most:
            raise ValueError(text)
        if self.kind == "integer":
            if not number.is_integer():
                raise ValueError(text)
            return int(number)
        return number


def fields_of(schema: Mapping[str, Any], yes: str, no: str) -> Sequence[Field] | None:
    """None for what can't be asked. What need not be said and can't be asked is left out."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return None
    required = schema.get("required")
    needed = cast(list[Any], required) if isinstance(required, list) else []
    found: list[Field] = []
    for name, each in cast(dict[str, Any], properties).items():
        field = (
            _field(name, cast(dict[str, Any], each), name in needed, yes, no)
            if isinstance(each, dict)
            else None
        )
        if field is not None:
            found.append(field)
        elif name in needed:
            return None
    return found if len(found) <= _MOST_FIELDS and (found or not needed) else None


async def answered(
    use: ToolUse, server: str, params: ElicitRequestParams, words: Callable[..., str]
) -> ElicitResult:
    """words: finds the plug-in's lines in the person's language."""
    if not isinstance(params, ElicitRequestFormParams):
        return ElicitResult(action="decline")
    yes, no, stop, skip = words("mcp.yes"), words("mcp.no"), words("mcp.decline"), words("mcp.skip")
    fields = fields_of(cast(Mapping[str, Any], params.requested_schema), yes, no)
    # A choice in the words of our own buttons would be pressed by who means to decline.
    ours = {_letters(stop), _letters(skip)}
    if fields is None or any(_letters(shown) in ours for field in fields for shown, _ in field.choices):
        return ElicitResult(action="decline")
    message = in_one_line(params.message, _LONGEST_QUESTION)
    content: dict[str, Any] = {}
    for field in fields or [Field("", "", True, [(yes, None)])]:
        said, value = await _asked(use, field, message, server, words)
        if said == "":
            return ElicitResult(action="cancel")
        if said == stop:
            return ElicitResult(action="decline")
        if field.name and said != skip:
            content[field.name] = value
    return ElicitResult(action="accept", content=content)


async def _asked(
    use: ToolUse, field: Field, message: str, server: str, words: Callable[..., str]
) -> tuple[str, Any]:
    """What was pressed or typed, "" for nothing (that fits), and its value."""
    own = [words("mcp.decline"), *([] if field.required else [words("mcp.skip")])]
    listed = ", ".join(shown for shown, _ in field.listed)
    title = f"{field.title} ({listed})" if listed else field.title
    complaint = ""
    for _ in range(_TRIES if field.typed else 1):
        question = words("mcp.asks", server=server, question=f"{complaint} {message} {title}".strip())
        said = await use.ask(question, [*(shown for shown, _ in field.choices), *own], typed=field.typed)
        if said is None or said in own:
            return said or "", None
        if not field.typed:
            return said, next(value for shown, value in field.choices if shown == said)
        try:
            return said, field.read(said.strip())
        except ValueError:
            complaint = words("mcp.unfit")
    return "", None


def _letters(shown: str) -> str:
    """What is read of a button: its signs can be told apart by nobody who is in a hurry."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", shown).casefold()))


def _field(name: str, schema: Mapping[str, Any], required: bool, yes: str, no: str) -> Field | None:
    given = schema.get("title")
    title = in_one_line(given if isinstance(given, str) else name, _LONGEST_TITLE)
    kind = schema.get("type")
    match kind:
        case "boolean":
            return Field(name, title, required, [(yes, True), (no, False)])
        case "string" if isinstance(schema.get("enum") or schema.get("oneOf"), list):
            pairs = _pairs(schema)
            if pairs is None:
                return None
            # Two buttons are ours.
            if sum(len(shown) + 2 for shown, _ in pairs) > _LONGEST_LIST:
                return None
            few = len(pairs) <= (_MOST_CHOICES if required else _MOST_CHOICES - 1)
            return Field(name, title, required, pairs) if few else Field(name, title, required, listed=pairs)
        case "string":
            least, most = _bounds(schema, "minLength", "maxLength")
            return Field(name, title, required, least=least, most=most)
        case "number" | "integer":
            least, most = _bounds(schema, "minimum", "maximum")
            return Field(name, title, required, kind=str(kind), least=least, most=most)
        case _:
            return None


def _bounds(schema: Mapping[str, Any], least: str, most: str) -> tuple[float, float]:
    def number(key: str, default: float) -> float:
        value = schema.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            return default
        return float(value)

    return number(least, -_LARGEST), number(most, _LARGEST)


def _pairs(schema: Mapping[str, Any]) -> Sequence[tuple[str, str]] | None:
    """What each choice is called, and its value; None for what can't be told apart."""
    listed, titled = schema.get("enum"), schema.get("oneOf")
    pairs: list[tuple[Any, Any]] = []
    if isinstance(listed, list):
        names = schema.get("enumNames")
        shown = cast(list[Any], names) if isinstance(names, list) else cast(list[Any], listed)
        pairs = list(zip(shown, cast(list[Any], listed), strict=False))
    elif isinstance(titled, list):
        options = [cast(dict[str, Any], each) for each in cast(list[Any], titled) if isinstance(each, dict)]
        pairs = [(each.get("title", each.get("const")), each.get("const")) for each in options]
    if not 0 < len(pairs) <= _MOST_LISTED:
        return None
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
        return None
    choices = [(in_one_line(name, _LONGEST_CHOICE), value) for name, value in pairs]
    # Two buttons of the same words would be one and the same to who presses.
    if len({name for name, _ in choices}) < len(choices) or any(not name for name, _ in choices):
        return None
    return choices
