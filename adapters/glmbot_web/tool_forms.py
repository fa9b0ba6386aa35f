"""Tools of OpenAI's chats: what is offered, what was called, and what an answer calls. Pure.

https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from glmbot.content import ToolCall
from glmbot.tools import MOST_TOOLS, NO_TOOLS, Choice, Offer, ToolDescription
from glmbot_web.bodies import BadRequest, Body, at_most, valid

__all__ = ["CalledTool", "OfferedTools", "ToolChoice", "call_of", "called", "offer_of", "tool_deltas"]

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class _Function(Body):
    name: str = Field(max_length=64)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(Body):
    type: Literal["function"]
    function: _Function


class _Named(Body):
    name: str = Field(max_length=64)


class _NamedTool(Body):
    type: Literal["function"]
    function: _Named


ToolChoice = Literal["none", "auto", "required"] | _NamedTool | None


class _CalledFunction(Body):
    name: str = Field(max_length=64)
    arguments: str = "{}"


class CalledTool(Body):
    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: _CalledFunction


OfferedTools = Annotated[list[OfferedTool], at_most(MOST_TOOLS)] | None


def offer_of(tools: Sequence[OfferedTool] | None, choice: ToolChoice, parallel: bool | None) -> Offer:
    """Raises BadRequest."""
    if not tools:
        if choice not in (None, "none", "auto"):
            raise BadRequest("tool_choice: no tools are given", "tool_choice")
        return NO_TOOLS
    described: list[ToolDescription] = []
    for number, tool in enumerate(tools):
        function = tool.function
        try:
            described.append(
                ToolDescription(
                    valid(function.name),
                    valid(function.description or ""),
                    function.parameters or _NO_PARAMETERS,
                )
            )
        except ValueError as error:
            field = f"tools.{number}.function"
            raise BadRequest(f"{field}: {error}", field) from None
    named = choice.function.name if isinstance(choice, _NamedTool) else ""
    kind = Choice.REQUIRED if named else Choice(choice) if isinstance(choice, str) else Choice.AUTO
    try:
        return Offer(described, kind, named, parallel=parallel is not False)
    except ValueError as error:
        field = "tool_choice" if named else "tools"
        raise BadRequest(f"{field}: {error}", field) from None


def call_of(tool: CalledTool, field: str) -> ToolCall:
    """Raises BadRequest."""
    try:
        return ToolCall(valid(tool.id), valid(tool.function.name), valid(tool.function.arguments or "{}"))
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
