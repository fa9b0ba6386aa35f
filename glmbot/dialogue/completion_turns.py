"""The turns of a stateless request in the terms of engines, calls of tools among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from glmbot.completions import Completion
from glmbot.content import Part, Text, ToolCall, ToolResult, checked, of_words
from glmbot.dialogue.schema_check import first_error
from glmbot.engine.base import Conversation, PastExchange
from glmbot.engine.thoughts import answer_of
from glmbot.errors import CallMissing
from glmbot.tools import Choice, Offer

__all__ = ["check_calls", "conversation_of", "words_of_turns"]


def conversation_of(request: Completion) -> Conversation:
    """Raises ValueError for turns in no order, and for a result whose call is not there."""
    system: list[str] = []
    past: list[PastExchange] = []
    questions: list[str] = []
    said: list[Part] = []
    for number, (role, text) in enumerate(request.turns):
        match role:
            case "system":
                system.append(text)
            case "user":
                if said:
                    past.append(PastExchange(of_words("\n\n".join(questions)), checked(said)))
                    questions, said = [], []
                questions.append(text)
            case "assistant":
                words = answer_of(text)
                if said and isinstance(said[-1], Text):
                    said[-1] = Text(f"{said[-1].text}\n\n{words}")
                elif words or number not in request.calls:
                    said.append(Text(words))
                said += request.calls.get(number, ())
            case "tool" if number in request.results:
                said.append(ToolResult(request.results[number], text))
            case _:
                raise ValueError(f"unknown role {role!r}; use system, user or assistant")
    if not questions or (said and not isinstance(said[-1], ToolResult)):
        raise ValueError("the last message must be the user's")
    return Conversation(
        of_words("\n\n".join(questions)), past, "\n\n".join(system), offer=request.offer, said=checked(said)
    )


def words_of_turns(request: Completion) -> str:
    """Whatever may reach the model, in one piece: words on both sides of a border are together there, too."""
    said = [text for _, text in request.turns]
    # Escaped they would not be found.
    said += [
        json.dumps(json.loads(call.arguments), ensure_ascii=False)
        for calls in request.calls.values()
        for call in calls
    ]
    for tool in request.offer.tools:
        said += (tool.name, tool.description, json.dumps(tool.parameters, ensure_ascii=False))
    return "\n\n".join(said)


def check_calls(calls: Sequence[ToolCall], offer: Offer) -> None:
    """Of an answer that had to call, or called a tool that wants nothing but what fits. Takes seconds at most for
    each, and belongs into a thread. Raises CallMissing."""
    required = offer.choice is Choice.REQUIRED
    if required and not calls:
        raise CallMissing("tool_choice: the model had to call a tool, and called none")
    described = {tool.name: tool for tool in offer.tools}
    for call in calls:
        tool = described.get(call.name)
        if tool is None or not (required or tool.strict):
            continue
        arguments = cast(object, json.loads(call.arguments))
        try:
            fits = first_error(tool.parameters, arguments) is None
        except Exception:
            # A schema that nobody can check says nothing against the call.
            fits = True
        if not fits:
            field = "tool_choice" if required else "strict"
            raise CallMissing(f"{field}: what the model calls {call.name} with does not fit its parameters")
