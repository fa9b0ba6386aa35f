"""Answers of a form, asked for over HTTP: by the real client of OpenAI, and field by field."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from adapters.waiting import running
from conftest import make_dialogue
from form_schemas import SCHEMAS, is_valid
from glmbot.dialogue.access import Access
from glmbot.engine.base import Sampling
from glmbot.engine.local import LocalEngine
from glmbot.forms import LONGEST_FORM, Form, FormKind
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.normalize import ChatCompletionRequest, openai_completions

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
COUNT = {"type": "object", "properties": {"数": {"type": "integer"}}}


class Place(BaseModel):
    kind: Literal["city", "村"]
    inhabitants: int
    old: bool


@pytest.fixture
async def client(engine: LocalEngine, sqlite_store: Store) -> AsyncGenerator[AsyncOpenAI]:
    wild = Sampling(max_tokens=500, temperature=1.0, top_p=1.0)
    adapter = WebAdapter(
        WebSettings(port=0), make_dialogue(engine, sqlite_store, access=Access(), sampling=wild)
    )
    async with running(adapter):
        yield AsyncOpenAI(base_url=f"{adapter.url}/v1", api_key="none", max_retries=0)


async def test_the_client_parses_what_a_random_model_says(client: AsyncOpenAI) -> None:
    for seed in range(4):
        asked = await client.chat.completions.parse(
            model="any", messages=HELLO, response_format=Place, seed=seed, max_tokens=500
        )
        assert isinstance(asked.choices[0].message.parsed, Place)
        assert asked.choices[0].finish_reason == "stop"


async def test_the_client_parses_a_response(client: AsyncOpenAI) -> None:
    said = await client.responses.parse(
        model="any", input="hello", text_format=Place, max_output_tokens=500, temperature=1.0
    )
    assert isinstance(said.output_parsed, Place)
    assert said.text is not None
    assert said.text.format is not None
    assert said.text.format.type == "json_schema"


async def test_a_stream_holds_nothing_but_the_form(client: AsyncOpenAI) -> None:
    schema = SCHEMAS["天气查询"]
    asked: Any = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    stream = await client.chat.completions.create(
        model="any", messages=HELLO, response_format=asked, seed=1, max_tokens=500, stream=True
    )
    said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert is_valid(schema, said)


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"regex": "(红|a/b){3}"}, "(红|a/b){3}"),
        ({"choice": ['a "quoted" one', "第二"]}, 'a "quoted" one|第二'),
        ({"grammar": 'start: "x" B\nB: /b{2,5}/'}, "xb{2,5}"),
        ({"json": json.dumps(SCHEMAS["vote"])}, r"\{.*\}"),
    ],
)
async def test_other_forms_are_asked_for_by_the_names_of_vllm(
    client: AsyncOpenAI, wanted: dict[str, Any], pattern: str
) -> None:
    asked = await client.chat.completions.create(
        model="any", messages=HELLO, seed=1, max_tokens=500, extra_body={"structured_outputs": wanted}
    )
    assert re.fullmatch(pattern, asked.choices[0].message.content or "", re.DOTALL)


async def test_what_can_not_be_held_to_is_refused_with_the_reason(
    client: AsyncOpenAI, engine: LocalEngine
) -> None:
    with pytest.raises(openai.BadRequestError, match="unclosed group"):
        await client.chat.completions.create(
            model="any", messages=HELLO, extra_body={"structured_outputs": {"regex": "("}}
        )
    engine.thread.forms = None
    with pytest.raises(openai.BadRequestError, match=r"response_format: .* can't be held to a form"):
        await client.chat.completions.create(
            model="any", messages=HELLO, response_format={"type": "json_object"}
        )


def form(**fields: Any) -> Form | None:
    request = parse(ChatCompletionRequest, json.dumps({"messages": HELLO, **fields}).encode())
    return openai_completions(request, UserKey("web", "1"), "s")[0].form


def test_the_fields_of_both_interfaces() -> None:
    named = {"name": "n", "schema": COUNT, "strict": True, "description": None}
    assert form(response_format={"type": "text"}) is None
    assert form(response_format={"type": "json_object"}) == Form(FormKind.JSON)
    assert form(response_format={"type": "json_schema", "json_schema": {"name": "n"}}) == Form(FormKind.JSON)
    schema = form(response_format={"type": "json_schema", "json_schema": named})
    assert schema is not None
    assert schema == form(structured_outputs={"json": COUNT})
    assert (schema.kind, json.loads(schema.source)) == (FormKind.SCHEMA, COUNT)
    assert form(structured_outputs={"json_object": True}) == Form(FormKind.JSON)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
        ({"response_format": {"type": "text", "json_schema": {"name": "n"}}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "n"}}},
            "response_format.json_schema",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "shape": {}}}},
            "response_format.json_schema.shape",
        ),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json_object"}, "response_format"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "grammar": "start: A"}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"regex": "a" * (LONGEST_FORM + 1)}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json": {"enum": ["a" * LONGEST_FORM]}}}, "structured_outputs.json"),
        ({"structured_outputs": {"choice": ["a"] * 1025}}, "structured_outputs.choice"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
    ],
)
def test_wrong_fields_are_refused_by_their_names(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        form(**fields)
    assert refused.value.field == field
