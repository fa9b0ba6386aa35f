"""The form of an answer that may call tools, so that nothing but valid calls comes through.

Where a call is up to the model, its words are free until what a call begins with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from glmbot.engine.grammars import json_rule
from glmbot.forms import LONGEST_FORM, Form, FormKind
from glmbot.models.calls.bare import LlamaJson, MistralCalls
from glmbot.models.calls.lines import NameAndJson
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import OPENING_CALL, TaggedJson
from glmbot.tools import Choice, Offer, ToolDescription

__all__ = ["call_form", "holdable"]

# Of one answer that is held to a form: a model that draws at random would call for ever.
_MOST_CALLS = 8
_ANY = "(?s:.*)"
_TOOL_CALLS = "[TOOL_CALLS]"


def holdable(syntax: CallSyntax) -> bool:
    """Whether `call_form` knows the syntax."""
    return isinstance(syntax, TaggedJson | LlamaJson | MistralCalls | NameAndJson)


def call_form(syntax: CallSyntax, offer: Offer, special: Mapping[str, int]) -> Form | None:
    """special: see `KnowsTools.special_tags`. None for a syntax that is no JSON, and for too much of tools."""
    tools = offer.callable
    match syntax:
        case TaggedJson():
            rules = _tagged(tools, special, offer)
        case LlamaJson():
            rules = _objects(tools, offer)
        case MistralCalls():
            rules = _listed(tools, special, offer, named=syntax.named)
        case NameAndJson():
            rules = _lines(tools, offer)
        case _:
            return None
    rules += [f"args_{number}: {json_rule(tool.parameters)}" for number, tool in enumerate(tools)]
    source = "\n".join(rules)
    if len(source) > LONGEST_FORM:
        return None
    return Form(
        FormKind.GRAMMAR, source, None if offer.choice is Choice.REQUIRED else _opening(syntax, special)
    )


def _opening(syntax: CallSyntax, special: Mapping[str, int]) -> str | None:
    """Of calls that may come anywhere in a text. Those that only begin one are no text from its first token on."""
    match syntax:
        case TaggedJson():
            return "" if OPENING_CALL in special else OPENING_CALL
        case MistralCalls():
            return _TOOL_CALLS if _TOOL_CALLS in special else None
        case _:
            return None


def _tagged(tools: Sequence[ToolDescription], special: Mapping[str, int], offer: Offer) -> list[str]:
    opening, closing = (_tag(tag, special) for tag in (OPENING_CALL, "</tool_call>"))
    more = _more(offer, '"\\n" one')
    rules = [
        f'rest: "\\n" body "\\n" {closing}',
        f"one: {opening} rest",
        f"body: {_either(tools)}",
        *_calls(tools, "arguments"),
    ]
    if offer.choice is Choice.REQUIRED:
        return [f"start: one{more}", *rules]
    if OPENING_CALL in special:
        return [f"start: TEXT (one{more})?", f"TEXT: /{_ANY}/", *rules]
    return [
        f"start: TEXT | lead rest{more}",
        f"TEXT: /{_ANY}/ & ~/{_ANY}{OPENING_CALL}{_ANY}/",
        f"lead[lazy]: /{_ANY}{OPENING_CALL}/",
        *rules,
    ]


def _objects(tools: Sequence[ToolDescription], offer: Offer) -> list[str]:
    more = _more(offer, '"; " body')
    rules = [
        f"calls: body{more}",
        f"body: {_either(tools)}",
        *_calls(tools, "parameters"),
    ]
    if offer.choice is Choice.REQUIRED:
        return ["start: calls", *rules]
    return ["start: TEXT | calls", f'TEXT: /{_ANY}/ & ~/\\s*\\{{\\s*"name"{_ANY}/', *rules]


def _listed(
    tools: Sequence[ToolDescription], special: Mapping[str, int], offer: Offer, *, named: bool
) -> list[str]:
    opening = _tag(_TOOL_CALLS, special)
    more = _more(offer, '", " body')
    if named:
        between = _tag("[ARGS]", special)
        rules = [
            f"calls: one{_more(offer, 'one')}",
            f"one: {opening} body",
            f"body: {_either(tools)}",
            *(
                f"call_{number}: {_text(tool.name)} {between} args_{number}"
                for number, tool in enumerate(tools)
            ),
        ]
    else:
        rules = [
            f'calls: {opening} " [" body{more} "]"',
            f"body: {_either(tools)}",
            *_calls(tools, "arguments"),
        ]
    if offer.choice is Choice.REQUIRED:
        return ["start: calls", *rules]
    free = f"TEXT: /{_ANY}/ & ~/{_ANY}\\[TOOL_CALLS\\]{_ANY}/"
    return ["start: TEXT calls?" if _TOOL_CALLS in special else "start: TEXT | calls", free, *rules]


def _lines(tools: Sequence[ToolDescription], offer: Offer) -> list[str]:
    names = "|".join(re.escape(tool.name) for tool in tools)
    rules = [
        f"body: {_either(tools)}",
        *(f"call_{number}: {_text(tool.name + chr(10))} args_{number}" for number, tool in enumerate(tools)),
    ]
    if offer.choice is Choice.REQUIRED:
        return ["start: body", *rules]
    return ["start: TEXT | body", f"TEXT: /{_ANY}/ & ~/\\s*({names})\\s*\\n{_ANY}/", *rules]


def _either(tools: Sequence[ToolDescription]) -> str:
    return " | ".join(f"call_{number}" for number in range(len(tools)))


def _calls(tools: Sequence[ToolDescription], key: str) -> list[str]:
    heads = [f'{{"name": "{tool.name}", "{key}": ' for tool in tools]
    return [f'call_{number}: {_text(head)} args_{number} "}}"' for number, head in enumerate(heads)]


def _more(offer: Offer, one: str) -> str:
    """What may follow a call."""
    return f" ({one}){{0,{_MOST_CALLS - 1}}}" if offer.parallel else ""


def _tag(tag: str, special: Mapping[str, int]) -> str:
    return f"<[{special[tag]}]>" if tag in special else _text(tag)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
