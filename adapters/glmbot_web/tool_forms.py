"""Tools of OpenAI's chats and responses: what is offered, what was called, and what an answer calls. Pure.

https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from glmbot.content import ToolCall
from glmbot.tools import MOST_TOOLS, NO_TOOLS, Choice, Offer, ToolDescription
from glmbot_web.bodies import BadRequest, Body, KnownBody, at_most, valid

__all__ = [
    "CalledTool",
    "OfferedFunctions",
    "OfferedTools",
    "ResponseToolChoice",
    "ToolChoice",
    "call_of",
    "called",
    "offer_of",
    "offer_of_functions",
    "tool_call",
    "tool_deltas",
]

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class _OfFunctions(KnownBody):
    type: Literal["function"]


class _Function(KnownBody):
    name: str = Field(max_length=64)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(_OfFunctions):
    function: _Function


class OfferedFunction(_Function, _OfFunctions):
    """As responses have it. What it is comes first, also in complaints."""


class _Named(KnownBody):
    name: str = Field(max_length=64)


class _NamedTool(_OfFunctions):
    function: _Named


class _NamedFunction(_Named, _OfFunctions):
    pass


def _shape(given: object) -> str:
    """Complaints are of the branch that was meant; no field has a space in its name."""
    return "a word" if given is None or isinstance(given, str) else "an object"


_Word = Annotated[Literal["none", "auto", "required"] | None, Tag("a word")]
ToolChoice = Annotated[_Word | Annotated[_NamedTool, Tag("an object")], Discriminator(_shape)]
ResponseToolChoice = Annotated[_Word | Annotated[_NamedFunction, Tag("an object")], Discriminator(_shape)]


class _CalledFunction(Body):
    name: str = Field(max_length=64)
    arguments: str = "{}"


class CalledTool(Body):
    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: _CalledFunction


OfferedTools = Annotated[list[OfferedTool], at_most(MOST_TOOLS)] | None
OfferedFunctions = Annotated[list[OfferedFunction], at_most(MOST_TOOLS)] | None


def offer_of(tools: Sequence[OfferedTool] | None, choice: ToolChoice, parallel: bool | None) -> Offer:
    """Of a chat. Raises BadRequest."""
    functions = {f"tools.{number}.function": tool.function for number, tool in enumerate(tools or ())}
    named = choice.function.name if isinstance(choice, _NamedTool) else ""
    return _offer(functions, choice if isinstance(choice, str) else None, named, parallel)


def offer_of_functions(
    tools: Sequence[OfferedFunction] | None, choice: ResponseToolChoice, parallel: bool | None
) -> Offer:
    """Of a response. Raises BadRequest."""
    functions = {f"tools.{number}": tool for number, tool in enumerate(tools or ())}
    named = choice.name if isinstance(choice, _NamedFunction) else ""
    return _offer(functions, choice if isinstance(choice, str) else None, named, parallel)


def _offer(functions: Mapping[str, _Function], word: str | None, named: str, parallel: bool | None) -> Offer:
    """functions: by the field that each stands in."""
    if not functions:
        if named or word == "required":
            raise BadRequest("tool_choice: no tools are given", "tool_choice")
        return NO_TOOLS
    described: list[ToolDescription] = []
    for field, function in functions.items():
        try:
            described.append(
                ToolDescription(
                    valid(function.name),
                    valid(function.description or ""),
                    function.parameters or _NO_PARAMETERS,
                    strict=bool(function.strict),
                )
            )
        except ValueError as error:
            raise BadRequest(f"{field}: {error}", field) from None
    kind = Choice.REQUIRED if named else Choice(word or "auto")
    try:
        return Offer(described, kind, named, parallel=parallel is not False)
    except ValueError as error:
        field = "tool_choice" if named else "tools"
        raise BadRequest(f"{field}: {error}", field) from None


def call_of(tool: CalledTool, field: str) -> ToolCall:
    """Raises BadRequest."""
    return tool_call(tool.id, tool.function.name, tool.function.arguments, field)


def tool_call(call_id: str, name: str, arguments: str, field: str) -> ToolCall:
    """One of before. Raises BadRequest."""
    try:
        return ToolCall(valid(call_id), valid(name), valid(arguments or "{}"))
    except ValueError as error:
        raise BadRequest(f"{field}: {error}", field) from None


def called(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def tool_deltas(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Of a stream: each call's name, and then its arguments."""
    deltas: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        function = {"name": call.name, "arguments": ""}
        deltas += (
            {"tool_calls": [{"index": number, "id": call.id, "type": "function", "function": function}]},
            {"tool_calls": [{"index": number, "function": {"arguments": call.arguments}}]},
        )
    return deltas
