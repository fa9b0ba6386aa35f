"""What a program asks an answer to look like: OpenAI's `response_format`, vLLM's `structured_outputs`. Pure."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag

from glmbot.forms import LONGEST_FORM, Form, FormKind
from glmbot_web.bodies import BadRequest, KnownBody, at_most, valid

__all__ = ["ResponseFormat", "StructuredOutputs", "TextFormat", "form_of", "form_of_text"]

_MOST_CHOICES = 1024
_Source = Annotated[str, Field(min_length=1, max_length=LONGEST_FORM)]


class _JsonSchema(KnownBody):
    """`strict` false asks for less than what is done: the schema is held to in any case."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=16_384)
    wanted: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _WithoutSchema(KnownBody):
    type: Literal["text", "json_object", "json_schema"]


class _WithSchema(KnownBody):
    type: Literal["json_schema"]
    json_schema: _JsonSchema


class _TextWithSchema(_JsonSchema):
    type: Literal["json_schema"]


def _shape(given: object) -> str:
    """Complaints are of the branch that was meant; no field has a space in its name."""
    fields = cast(dict[str, object], given) if isinstance(given, dict) else {}
    return "a schema" if fields.get("type") == "json_schema" else "no schema"


_Without = Annotated[_WithoutSchema, Tag("no schema")]
ResponseFormat = Annotated[Annotated[_WithSchema, Tag("a schema")] | _Without, Discriminator(_shape)]
"""https://platform.openai.com/docs/api-reference/chat/create#chat_create-response_format"""
TextFormat = Annotated[Annotated[_TextWithSchema, Tag("a schema")] | _Without, Discriminator(_shape)]
"""https://platform.openai.com/docs/api-reference/responses/create#responses_create-text"""


class StructuredOutputs(KnownBody):
    """https://docs.vllm.ai/en/latest/features/structured_outputs.html, as far as it says what the answer is. A
    grammar is written in llguidance's Lark."""

    wanted: dict[str, Any] | _Source | None = Field(default=None, alias="json")
    json_object: Literal[True] | None = None
    regex: _Source | None = None
    choice: Annotated[list[_Source], at_most(_MOST_CHOICES), Field(min_length=1)] | None = None
    grammar: _Source | None = None


def form_of(format: ResponseFormat | None, structured: StructuredOutputs | None) -> Form | None:
    """Raises BadRequest."""
    asked = None if format is None else _of_format(format)
    if structured is None:
        return asked
    if asked is not None:
        raise BadRequest("structured_outputs: response_format says what the answer is", "structured_outputs")
    return _of_structured(structured)


def form_of_text(format: TextFormat | None) -> Form | None:
    """Raises BadRequest."""
    if isinstance(format, _TextWithSchema):
        return _of_schema(format, "text.format")
    return _of_plain(format)


def _of_format(format: ResponseFormat) -> Form | None:
    if isinstance(format, _WithSchema):
        return _of_schema(format.json_schema, "response_format.json_schema")
    return _of_plain(format)


def _of_plain(format: _WithoutSchema | None) -> Form | None:
    return None if format is None or format.type == "text" else Form(FormKind.JSON)


def _of_schema(asked: _JsonSchema, where: str) -> Form:
    field = f"{where}.schema"
    if asked.wanted is not None:
        return _form(FormKind.SCHEMA, json.dumps(asked.wanted), field)
    if asked.strict:
        raise BadRequest(f"{field}: is missing, and strict asks to hold to it", field)
    return Form(FormKind.JSON)


def _of_structured(structured: StructuredOutputs) -> Form:
    given = [name for name, value in structured if value is not None]
    if len(given) != 1:
        raise BadRequest(
            "structured_outputs: takes one of json, json_object, regex, choice and grammar",
            "structured_outputs",
        )
    if structured.wanted is not None:
        wanted = structured.wanted
        source = wanted if isinstance(wanted, str) else json.dumps(wanted)
        return _form(FormKind.SCHEMA, source, "structured_outputs.json")
    if structured.regex is not None:
        return _form(FormKind.REGEX, structured.regex, "structured_outputs.regex")
    if structured.choice is not None:
        choices = " | ".join(json.dumps(valid(each), ensure_ascii=False) for each in structured.choice)
        return _form(FormKind.GRAMMAR, f"start: {choices}", "structured_outputs.choice")
    if structured.grammar is not None:
        return _form(FormKind.GRAMMAR, structured.grammar, "structured_outputs.grammar")
    return Form(FormKind.JSON)


def _form(kind: FormKind, source: str, field: str) -> Form:
    try:
        return Form(kind, valid(source))
    except ValueError as error:
        raise BadRequest(f"{field}: {error}", field) from None
