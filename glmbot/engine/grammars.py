"""From what is asked of an answer to the grammar that it follows, thoughts before it included. Pure text.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md

Who writes a `Form` of FormKind.GRAMMAR, for calls of tools among text, writes Lark with a rule `start`:

    start: (TEXT call)* TEXT                 text, with calls in it
    call: <|tool_call|> "{" … "}" <[151658]> control tokens, by their name or id
    TEXT: /(.|\\n)*/

    start: (call)* TEXT                      where the trigger is text and no control token
    call: opening "\\n" body "\\n</tool_call>"
    opening[lazy]: TEXT "<tool_call>"
    body: %json {"type": "object", …}        see `json_rule`

A token that the tokenizer itself does not call special is text, whatever it is called (Qwen's `<tool_call>`). Text
never becomes a special token; those stand where the grammar names them, and nowhere else. The thought of a model
that thinks first is let be: it comes before `start`. The answer may end where `start` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from math import lcm
from typing import Any, cast

from llguidance import regex_to_lark

from glmbot.forms import Form, FormKind
from glmbot.models.thoughts import CLOSING, OPENING

__all__ = ["Before", "grammar_of", "json_rule"]

# A model that draws at random would write white space for ever: at most a line break, and a deep indent.
_WHITE_SPACE = r"\n? {0,16}"
# Of a key no more is read than "multipleOf" takes, each letter escaped: quotes without end would take hours.
_NUMBERS = re.compile(r'"((?:[^"\\]|\\.){0,64}+)"\s*:\s*(-?[0-9][0-9.eE+-]{0,40})')
_MOST_STATES, _MOST_DIGITS = 10_000, 9
# Days that a calendar has: llguidance's "date" lets the 29th of any February through, and a year 0, which Python's
# own library does not read.
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_FOURTH = "(?:0[48]|[2468][048]|[13579][26])"
_DATE = f"(?:{_YEAR}-{_DAY}|(?:[0-9]{{2}}{_FOURTH}|{_FOURTH}00)-02-29)"
# No more than nanoseconds: a model that has begun a fraction may write digits for ever.
_TIME = r"[0-9:]{8}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9:]{5})?"
_PATTERNS: Mapping[str, str] = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}[Tt]{_TIME}$",
    "time": f"^{_TIME}$",
}
# Whose values are no schemas.
_VALUES = frozenset({"enum", "const", "default", "examples"})
_OPTIONS: Mapping[str, object] = {"whitespace_pattern": _WHITE_SPACE, "lenient": False}


@dataclass(frozen=True, slots=True)
class Before:
    """What an answer may begin with that its form says nothing of.

    inside: it begins in a thought, which the prompt has opened. may_think: it may open one. The tags are control
    tokens where they have an id. space: its text loses a space that it begins with, as SentencePiece's does.
    """

    inside: bool = False
    may_think: bool = False
    opening: int | None = None
    closing: int | None = None
    space: bool = False


def grammar_of(form: Form, before: Before = Before()) -> str:
    """llguidance's own JSON. Raises ValueError for a schema that is no JSON object."""
    _refuse_costly_numbers(form)
    lead = _lead(before)
    try:
        found = {"name": "form", **_grammar(form)}
        return json.dumps(
            {"grammars": [{"name": "answer", "lark_grammar": lead}, found] if lead else [found]}
        )
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None


def json_rule(schema: Mapping[str, Any]) -> str:
    """`%json {…}`, for a grammar, with no more white space than a form of FormKind.SCHEMA has."""
    return f"%json {json.dumps(_bounded(schema))}"


def _grammar(form: Form) -> dict[str, object]:
    match form.kind:
        case FormKind.JSON:
            return {"json_schema": _bounded({"type": "object"})}
        case FormKind.SCHEMA:
            return {"json_schema": _bounded(_schema(form.source))}
        case FormKind.REGEX:
            return {"lark_grammar": f"start: /{regex_to_lark(form.source)}/"}
        case FormKind.GRAMMAR:
            return {"lark_grammar": form.source}


def _schema(source: str) -> Mapping[str, Any]:
    try:
        schema: object = json.loads(source)
    except ValueError as error:
        raise ValueError(f"the schema is no JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError("the schema is no JSON object")
    return cast(dict[str, Any], schema)


def _refuse_costly_numbers(form: Form) -> None:
    """The states of an automaton are as many as the least number that all multiples share, at gigabytes for some
    millions. Raises ValueError."""
    if form.kind is FormKind.REGEX:
        return
    shared = 1
    for key, number in _NUMBERS.findall(form.source):
        try:
            if json.loads(f'"{key}"') != "multipleOf":
                continue
            parts = Decimal(number).normalize().as_tuple()
        except (ValueError, ArithmeticError):
            continue
        exponent = int(parts.exponent)
        digits = int("".join(map(str, parts.digits[:_MOST_DIGITS])))
        shared = lcm(shared, digits * 10 ** min(max(exponent, 0), _MOST_DIGITS))
        if abs(exponent) > _MOST_DIGITS or len(parts.digits) > _MOST_DIGITS or shared > _MOST_STATES:
            raise ValueError(f"multipleOf: together of more than {_MOST_STATES:,}, or with too many digits")


def _bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    # One that is too deep here can't be compiled either.
    with suppress(RecursionError):
        schema = _dated(schema)
    # At the top alone, where it is read.
    return {**schema, "x-guidance": _OPTIONS}


def _dated(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_dated(each) for each in cast(list[Any], schema)]
    if not isinstance(schema, Mapping):
        return schema
    fields = cast(Mapping[str, Any], schema)
    made = {key: value if key in _VALUES else _dated(value) for key, value in fields.items()}
    named = made.get("format")
    if isinstance(named, str) and named in _PATTERNS and "pattern" not in made:
        made["pattern"] = _PATTERNS[named]
    return made


def _lead(before: Before) -> str:
    """A grammar that goes on with that of the form; none where nothing may come before it."""
    thought = "thought GAP? "
    if before.inside:
        begun = thought
    elif before.may_think:
        begun = f"(opening {thought})? "
    else:
        begun = ""
    space = '" "? ' if before.space and not begun else ""
    if not begun and not space:
        return ""
    rules = [f"start: {begun}{space}@form"]
    if begun:
        rules.append(r"GAP: /\n{1,2}/")
        rules.append(f"opening: {_token(before.opening, OPENING)}")
        rules.append(
            f"thought[lazy]: /(?s:.*){CLOSING.replace('/', chr(92) + '/')}/"
            if before.closing is None
            else f"thought: /(?s:.*)/ {_token(before.closing, CLOSING)}"
        )
    return "\n".join(rules)


def _token(token: int | None, text: str) -> str:
    return json.dumps(text) if token is None else f"<[{token}]>"
