"""Tools in the chat interface of OpenAI-compatible servers: what is sent of them, and the calls that come back in
pieces. Pure.

https://platform.openai.com/docs/guides/function-calling. Servers differ in how they cut a call: some say its name
once and some in each piece, some number their calls and some give all the number 0, and some make no text of the
arguments. What a server says is bounded by whoever takes it: see `glmbot.engine.remote_answer`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from glmbot.engine.base import CallSoFar
from glmbot.models.base import ChatMessage, Speaker
from glmbot.models.calls.reader import MOST_CALLS, call_id
from glmbot.models.calls.syntax import ObjectEnd, call_of, json_of
from glmbot.models.template_dialogue import unended
from glmbot.tools import Choice, Offer, ToolDescription

__all__ = ["CallPiece", "GrowingCalls", "call_pieces", "message_of", "probe_fields", "tool_fields"]

# Of one event; none that means well has so many.
_MOST_PIECES = 128
_PING = ToolDescription("ping", "Says pong.", {"type": "object", "properties": {}})


def tool_fields(offer: Offer) -> dict[str, Any]:
    """Of a request's body. What a server does anyway is left out, since not all know each field."""
    if not offer.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_described(tool) for tool in offer.tools]}
    if offer.name:
        fields["tool_choice"] = {"type": "function", "function": {"name": offer.name}}
    elif offer.choice is not Choice.AUTO:
        fields["tool_choice"] = str(offer.choice)
    if not offer.parallel:
        fields["parallel_tool_calls"] = False
    return fields


def probe_fields() -> dict[str, Any]:
    """A tool that nothing can be wrong with but that it is one."""
    return {"tools": [_described(_PING)]}


def _described(tool: ToolDescription) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def message_of(message: ChatMessage) -> dict[str, Any]:
    """As the interface has it."""
    if message.speaker is Speaker.TOOL and message.of is not None:
        return {"role": "tool", "tool_call_id": message.of.id, "content": unended(message.text)}
    said: dict[str, Any] = {"role": str(message.speaker), "content": message.text}
    if message.calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    # Escaped, a control token in it would not be found.
                    "arguments": json.dumps(json.loads(call.arguments), ensure_ascii=False),
                },
            }
            for call in message.calls
        ]
    return said


@dataclass(frozen=True, slots=True)
class CallPiece:
    """`index`: which of the answer's calls it belongs to, None where the server does not say."""

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""


def call_pieces(told: object) -> tuple[CallPiece, ...]:
    """Those of one event. Raises TypeError for what are none."""
    if told is None:
        return ()
    if not isinstance(told, list):
        raise TypeError("the calls of an event are no list")
    return tuple(_piece(each) for each in cast(list[object], told)[:_MOST_PIECES])


def _piece(told: object) -> CallPiece:
    if not isinstance(told, dict):
        raise TypeError("a call is no object")
    fields = cast(dict[str, Any], told)
    function: Any = fields.get("function") or {}
    if not isinstance(function, dict):
        raise TypeError("the function of a call is no object")
    written = cast(dict[str, Any], function)
    arguments: Any = written.get("arguments")
    if isinstance(arguments, dict):
        arguments = json_of(cast(dict[str, Any], arguments)) or ""
    index: Any = fields.get("index")
    return CallPiece(
        index if type(index) is int else None,
        _text(fields.get("id")),
        _text(written.get("name")),
        _text(arguments),
    )


def _text(told: object) -> str:
    """Raises TypeError for what is neither text nor nothing."""
    if told is None:
        return ""
    if not isinstance(told, str):
        raise TypeError("a part of a call is no text")
    return told


@dataclass(slots=True)
class _Growing:
    id: str = ""
    name: str = ""
    arguments: str = ""
    _end: ObjectEnd = field(default_factory=lambda: ObjectEnd(0))

    @property
    def whole(self) -> bool:
        return self._end.find(self.arguments) is not None


class GrowingCalls:
    """Those of one answer, under ids of ours: a server's may come twice."""

    def __init__(self, offer: Offer) -> None:
        self._tools = {tool.name: tool.parameters for tool in offer.callable}
        self._most = MOST_CALLS if offer.parallel else 1
        self._calls: list[_Growing] = []
        self._by_index: dict[int | None, _Growing | None] = {}
        self.characters = 0

    def take(self, pieces: Sequence[CallPiece]) -> None:
        for piece in pieces:
            call = self._call_of(piece)
            if call is None:
                # One too many, which nobody asked for, and which may have no end.
                self.characters += len(piece.arguments)
                continue
            before = len(call.name)
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            call.arguments += piece.arguments
            self.characters += len(call.name) - before + len(piece.arguments)

    def _call_of(self, piece: CallPiece) -> _Growing | None:
        if piece.index in self._by_index:
            call = self._by_index[piece.index]
        else:
            # Where calls are not numbered, a piece without an id goes on with the last.
            call = self._calls[-1] if piece.index is None and self._calls and not piece.id else None
            if call is None:
                return self._begun(piece)
        if call is None or (piece.id and call.id and piece.id != call.id):
            return self._begun(piece)
        if piece.name and piece.arguments and call.whole:
            return self._begun(piece)
        return call

    def _begun(self, piece: CallPiece) -> _Growing | None:
        if len(self._calls) >= self._most:
            if len(self._by_index) <= MOST_CALLS:
                self._by_index[piece.index] = None
            return None
        call = self._by_index[piece.index] = _Growing()
        self._calls.append(call)
        return call

    def ended(self) -> tuple[tuple[CallSoFar, ...], str]:
        """The calls of tools that may be called, with one JSON object each; what is none of these is words, as it
        is where a model writes it into its text."""
        answer, found, words = random.getrandbits(64), list[CallSoFar](), list[str]()
        for call in self._calls:
            arguments = call.arguments.strip() or "{}"
            read = call_of({"name": call.name, "arguments": arguments}, self._tools)
            if read is None:
                name = json.dumps(call.name, ensure_ascii=False)
                words.append(f'{{"name": {name}, "arguments": {arguments}}}')
            else:
                found.append(CallSoFar(call_id(answer, len(found)), read.name, read.arguments))
        return tuple(found), "\n".join(words)
