"""What a server asks a person in the middle of a call: yes or no, or one of a few, by buttons. What has to be
typed is declined, since whoever types a password into a chat has told it to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from glmbot.host import ToolUse
from glmbot_mcp.listing import in_one_line

__all__ = ["Field", "answered", "fields_of"]

Field = tuple[str, str, Sequence[tuple[str, Any]]]
"""A name, what it is called, and the choices: what stands on the button, and its value."""

# With our own button they are five, which is as many as a tool may show.
_MOST_FIELDS, _MOST_CHOICES = 3, 4
_LONGEST_QUESTION, _LONGEST_CHOICE = 500, 28


def fields_of(schema: Mapping[str, Any], yes: str, no: str) -> Sequence[Field] | None:
    """None for what buttons can't answer."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return None
    required = schema.get("required")
    needed = cast(list[Any], required) if isinstance(required, list) else []
    found: list[Field] = []
    for name, each in cast(dict[str, Any], properties).items():
        choices = _choices(cast(dict[str, Any], each), yes, no) if isinstance(each, dict) else None
        if choices is None:
            if name in needed:
                return None
            continue
        title = cast(dict[str, Any], each).get("title")
        found.append((name, in_one_line(title if isinstance(title, str) else name, 60), choices))
    return found if len(found) <= _MOST_FIELDS and (found or not needed) else None


async def answered(
    use: ToolUse, server: str, params: ElicitRequestParams, words: Callable[..., str]
) -> ElicitResult:
    """words: finds the plug-in's lines in the person's language."""
    if not isinstance(params, ElicitRequestFormParams):
        return ElicitResult(action="decline")
    yes, no, stop = words("mcp.yes"), words("mcp.no"), words("mcp.decline")
    fields = fields_of(cast(Mapping[str, Any], params.requested_schema), yes, no)
    # A choice in the words of our own button would be pressed by who means to decline.
    if fields is None or any(stop == shown for _, _, choices in fields for shown, _ in choices):
        return ElicitResult(action="decline")
    message = in_one_line(params.message, _LONGEST_QUESTION)
    content: dict[str, Any] = {}
    for name, title, choices in fields or [("", "", [(yes, None)])]:
        question = words("mcp.asks", server=server, question=f"{message} {title}".strip())
        pressed = await use.ask(question, [*(shown for shown, _ in choices), stop])
        if pressed is None:
            return ElicitResult(action="cancel")
        value = next((pair for pair in choices if pair[0] == pressed), None)
        if value is None:
            return ElicitResult(action="decline")
        if name:
            content[name] = value[1]
    return ElicitResult(action="accept", content=content)


def _choices(schema: Mapping[str, Any], yes: str, no: str) -> Sequence[tuple[str, Any]] | None:
    """https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation#requested-schema"""
    if schema.get("type") == "boolean":
        return [(yes, True), (no, False)]
    if schema.get("type") != "string":
        return None
    listed = schema.get("enum")
    titled = schema.get("oneOf")
    pairs: list[tuple[Any, Any]] = []
    if isinstance(listed, list):
        names = schema.get("enumNames")
        shown = cast(list[Any], names) if isinstance(names, list) else cast(list[Any], listed)
        pairs = list(zip(shown, cast(list[Any], listed), strict=False))
    elif isinstance(titled, list):
        options = [cast(dict[str, Any], each) for each in cast(list[Any], titled) if isinstance(each, dict)]
        pairs = [(each.get("title", each.get("const")), each.get("const")) for each in options]
    if not 0 < len(pairs) <= _MOST_CHOICES:
        return None
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
        return None
    choices = [(in_one_line(name, _LONGEST_CHOICE), value) for name, value in pairs]
    # Two buttons of the same words would be one and the same to who presses.
    if len({name for name, _ in choices}) < len(choices) or any(not name for name, _ in choices):
        return None
    return choices
