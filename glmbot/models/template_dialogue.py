"""Dialogues with tools as a chat template takes them, and which of the ways to write them it takes.

https://huggingface.co/docs/transformers/chat_extras says how most want them. Others want arguments as text
(DeepSeek), a name as `metadata` and results of an `observation` (GLM-4), or one call at a time (Llama 3.1).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from glmbot.content import ToolCall
from glmbot.models.base import ChatMessage, Speaker
from glmbot.models.calls.bare import LlamaJson, MistralCalls
from glmbot.models.calls.lines import NameAndJson
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import KeysAndValues, TaggedJson
from glmbot.models.template import ChatTemplate, TemplateExceeded, TemplateRefused, Wish
from glmbot.tools import ToolDescription

__all__ = ["RESULT_END", "Dialect", "Say", "learned", "unended", "wish_for"]

Say = Callable[[str], str]
"""What stands in a message for a text that somebody wrote."""

# What of a schema or of arguments no template can make a control token of: it is shown to the template as it is,
# since some look at it (`"type": "string"`).
_PLAIN = re.compile(r"[\w .,;:!?'()/+=*-]*")
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_AROUND = 200
RESULT_END = "</tool_response>"
_ARGUMENT, _VALUE, _RESULT = "probekey", "probevalue", "proberesult"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a template wants calls."""

    as_text: bool = False
    """Arguments are JSON in a text."""
    metadata: bool = False
    """A call is what an assistant says under the name as `metadata`, and a result is an `observation`."""
    one_by_one: bool = False
    """At most one call in a message."""
    tools_inside: bool = False
    """Tools are told of in a system message of their own."""


_DIALECTS = (
    Dialect(),
    Dialect(as_text=True),
    Dialect(one_by_one=True),
    Dialect(as_text=True, one_by_one=True),
    Dialect(metadata=True, one_by_one=True),
    Dialect(metadata=True, one_by_one=True, tools_inside=True),
)
"""The first is the one that a template is tried with first."""


def wish_for(
    messages: Sequence[ChatMessage],
    tools: Sequence[ToolDescription],
    dialect: Dialect,
    say: Say,
    *,
    holds_control: Callable[[str], bool],
    shaped: Callable[[str], Any],
) -> Wish:
    """say: is called for each text in the same order each time, whatever it says. holds_control: whether a text
    holds a control token. shaped: see `ChatTemplate.said`."""

    def quote(text: str) -> str:
        return text if _PLAIN.fullmatch(text) and not holds_control(text) else say(text)

    def words(text: str) -> object:
        return shaped(say(text) if text else text)

    written: list[dict[str, Any]] = []
    told = [_tool(tool, quote) for tool in tools]
    if told and dialect.tools_inside:
        written.append({"role": "system", "content": "", "tools": told})
    for message in _one_by_one(messages) if dialect.one_by_one else messages:
        match message.speaker:
            case Speaker.ASSISTANT if message.calls:
                written += _calling(message, dialect, say, words, quote)
            case Speaker.TOOL if message.of is not None:
                written.append(_result(message, message.of, dialect, words))
            case _:
                # What is said is marked even where it is nothing, as a template wants to see that it is text.
                written.append({"role": message.speaker.value, "content": shaped(say(message.text))})
    return Wish(written, told if told and not dialect.tools_inside else None)


def _tool(tool: ToolDescription, quote: Say) -> dict[str, Any]:
    function = {
        "name": quote(tool.name),
        "description": quote(tool.description),
        "parameters": _quoted(tool.parameters, quote),
    }
    return {"type": "function", "function": function}


def _quoted(value: object, quote: Say) -> Any:
    match value:
        case str():
            return quote(value)
        case Mapping():
            items = cast(Mapping[str, object], value).items()
            return {quote(str(key)): _quoted(each, quote) for key, each in items}
        case list() | tuple():
            return [_quoted(each, quote) for each in cast(Sequence[object], value)]
        case _:
            return value


def _calling(
    message: ChatMessage, dialect: Dialect, say: Say, words: Callable[[str], Any], quote: Say
) -> list[dict[str, Any]]:
    if dialect.metadata:
        said = [{"role": "assistant", "content": words(message.text)}] if message.text else []
        # A JSON object holds no text but between its quotation marks, so it is shown as one text.
        return said + [
            {"role": "assistant", "metadata": quote(call.name), "content": words(_compact(call))}
            for call in message.calls
        ]
    calls: list[dict[str, Any]] = []
    content = words(message.text)
    for call in message.calls:
        arguments = say(_compact(call)) if dialect.as_text else _quoted(json.loads(call.arguments), quote)
        function = {"name": quote(call.name), "arguments": arguments}
        calls.append({"type": "function", "id": _id(call), "function": function})
    return [{"role": "assistant", "content": content, "tool_calls": calls}]


def _result(
    message: ChatMessage, call: ToolCall, dialect: Dialect, words: Callable[[str], Any]
) -> dict[str, Any]:
    said = words(unended(message.text))
    if dialect.metadata:
        return {"role": "observation", "content": said}
    return {"role": "tool", "name": call.name, "tool_call_id": _id(call), "content": said}


def unended(result: str) -> str:
    """It does not end itself, to go on as the next one: to some tokenizers what ends it is plain text."""
    return result.replace(RESULT_END, f"<\u200b{RESULT_END[1:]}")


def _compact(call: ToolCall) -> str:
    return json.dumps(json.loads(call.arguments), ensure_ascii=False)


def _id(call: ToolCall) -> str:
    """Mistral's templates take nine letters and digits."""
    return call.id if _MISTRAL_ID.fullmatch(call.id) else hashlib.sha256(call.id.encode()).hexdigest()[:9]


def _one_by_one(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Each call with its result right behind it."""
    made: list[ChatMessage] = []
    for calling, group in groupby(
        messages, key=lambda each: bool(each.calls) or each.speaker is Speaker.TOOL
    ):
        if not calling:
            made += group
            continue
        waiting = list(group)
        results = {each.of.id: each for each in waiting if each.of is not None}
        for message in waiting:
            for number, call in enumerate(message.calls):
                made.append(ChatMessage(Speaker.ASSISTANT, "" if number else message.text, (call,)))
                if call.id in results:
                    made.append(results[call.id])
    return made


_CALLS = (
    ToolCall("probeid01", "probe_one", json.dumps({_ARGUMENT: _VALUE})),
    ToolCall("probeid02", "probe_two", json.dumps({_ARGUMENT: 7})),
)
_TOOLS = tuple(
    ToolDescription(
        call.name,
        "probedescription",
        {"type": "object", "properties": {_ARGUMENT: {"type": "string"}}, "required": [_ARGUMENT]},
    )
    for call in _CALLS
)
_PROBES = (
    ChatMessage(Speaker.USER, "probequestion"),
    ChatMessage(Speaker.ASSISTANT, "", _CALLS),
    ChatMessage(Speaker.TOOL, f"{_RESULT}1", of=_CALLS[0]),
    ChatMessage(Speaker.TOOL, f"{_RESULT}2", of=_CALLS[1]),
)
"""Asked, called, and answered by the tools; what was called is to be read in the prompt that follows."""
_SHOWN = ("probequestion", "probedescription", "probe_one", "probe_two", _ARGUMENT, _VALUE, "7", f"{_RESULT}1",
          f"{_RESULT}2")  # fmt: skip


def learned(template: ChatTemplate) -> tuple[Dialect, CallSyntax] | None:
    """How a template wants calls and writes them. None where it leaves tools, calls or results out, or writes them
    as nobody here can read."""
    for dialect in _DIALECTS:
        wish = wish_for(_PROBES, _TOOLS, dialect, str, holds_control=lambda _: False, shaped=template.said)
        try:
            rendered = template.render(wish)
        except (TemplateRefused, TemplateExceeded):
            continue
        if all(each in rendered for each in _SHOWN) and rendered.count("probe_one") > 1:
            syntax = _syntax_of(rendered)
            return None if syntax is None else (dialect, syntax)
    return None


def _syntax_of(rendered: str) -> CallSyntax | None:
    end = rendered.rfind(_VALUE)
    call = rendered[max(0, rendered.rfind("probe_one", 0, end) - _AROUND) : end + _AROUND]
    if "<arg_key>" in call:
        return KeysAndValues()
    if re.search(r'<tool_call>\s*\{\s*"name":', call):
        return TaggedJson()
    if "[TOOL_CALLS]" in call:
        return MistralCalls(named=re.search(r"\[TOOL_CALLS\]\s*probe_one", call) is not None)
    if re.search(r'\{"name": "probe_one", "(parameters|arguments)":', call):
        return LlamaJson()
    if re.search(rf'probe_one\s*\n\s*\{{"{_ARGUMENT}":', call):
        return NameAndJson()
    return None
