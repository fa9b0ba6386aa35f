"""Tools for models whose chat template knows none: told of in the system prompt, as Hermes models are, and called
and answered in plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from glmbot.models.base import ChatMessage, ChatTurn, Speaker
from glmbot.models.calls.bare import LlamaJson
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import TaggedJson
from glmbot.models.template_dialogue import RESULT_END, unended
from glmbot.tools import ToolDescription

__all__ = ["SYNTAXES", "in_words", "turns_of"]

_WRITTEN = TaggedJson()
SYNTAXES: Sequence[CallSyntax] = (_WRITTEN, LlamaJson())
"""The first is the one that they are told; not all keep to its tags."""

_RESULT = "<tool_response>"
_TOLD = """\
# Tools

You may call functions to help with what the user asks. They are described here as JSON, one a line:
<tools>
{tools}
</tools>

To call one, write a JSON object with its name and its arguments between <tool_call> tags, and nothing after it:
<tool_call>
{{"name": "the function's name", "arguments": {{"a parameter": "its value"}}}}
</tool_call>

What it says comes back between <tool_response> tags. Call none when you know the answer without it."""


def in_words(system: str, tools: Sequence[ToolDescription]) -> str:
    """The system prompt with the tools in front of it: they are the same for everybody, so that they are computed
    once."""
    if not tools:
        return system
    lines = (
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            ensure_ascii=False,
        )
        for tool in tools
    )
    told = _TOLD.format(tools="\n".join(lines))
    return f"{told}\n\n{system}" if system else told


def turns_of(messages: Sequence[ChatMessage]) -> tuple[list[ChatTurn], str]:
    """The messages as turns of questions and answers, and the last question. What tools said is asked."""
    said: list[tuple[bool, str]] = []
    for message in messages:
        asked = message.speaker is not Speaker.ASSISTANT
        text = _text_of(message)
        if said and said[-1][0] == asked:
            said[-1] = asked, f"{said[-1][1]}\n{text}"
        else:
            said.append((asked, text))
    answers = [text for asked, text in said if not asked]
    questions = [text for asked, text in said if asked]
    turns = [ChatTurn(question, answer) for question, answer in zip(questions, answers, strict=False)]
    return turns, questions[-1]


def _text_of(message: ChatMessage) -> str:
    if message.speaker is Speaker.TOOL:
        return f"{_RESULT}\n{unended(message.text)}\n{RESULT_END}"
    calls = [_WRITTEN.written(call.name, json.loads(call.arguments)) for call in message.calls]
    return "\n".join([*([message.text] if message.text else []), *calls])
