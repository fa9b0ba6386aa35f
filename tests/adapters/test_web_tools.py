"""The openai client's loop of tools, in process, over chats and over responses."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from adapters.scripted import ScriptedEngine
from adapters.test_openai_api import client_of
from adapters.test_web import web
from glmbot.keys import UserKey
from glmbot.models.calls.tagged import TaggedJson
from glmbot.store.base import Store
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.normalize import ChatCompletionRequest, openai_completions
from glmbot_web.program import Program
from glmbot_web.responses_request import ResponsesRequest, response_completion

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}}
]
CALL = TaggedJson().written("weather", {"city": "Oslo"})


async def test_a_program_is_called_runs_the_tool_and_is_answered(sqlite_store: Store) -> None:
    messages: Any = [{"role": "user", "content": "Weather in Oslo?"}]
    async with web(ScriptedEngine(CALL), sqlite_store) as site, client_of(site) as client:
        whole = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
        (choice,) = whole.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
        deltas = [
            delta
            async for chunk in await client.chat.completions.create(
                model="m", messages=messages, tools=TOOLS, tool_choice="required", stream=True
            )
            for delta in chunk.choices[0].delta.tool_calls or ()
        ]
        assert deltas[0].id
        assert (
            "".join(each.function.arguments or "" for each in deltas if each.function)
            == call.function.arguments
        )
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "12"}]
        again = await client.chat.completions.create(
            model="m", messages=messages, tools=TOOLS, tool_choice="none"
        )
        assert again.choices[0].message.tool_calls is None


async def test_a_call_that_has_to_come_and_does_not_is_an_error_by_name(sqlite_store: Store) -> None:
    for said in ("Just words.", TaggedJson().written("weather", {"city": 5})):
        async with web(ScriptedEngine(said), sqlite_store) as site, client_of(site) as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.create(
                    model="m",
                    messages=[{"role": "user", "content": "hi"}],
                    tools=TOOLS,
                    tool_choice="required",
                )
            assert failed.value.status_code == 502
            assert failed.value.code == "tool_call_missing"


FUNCTIONS: Any = [
    {"type": "function", "name": "weather", "description": "Of a city.", "parameters": SCHEMA, "strict": True}
]


async def test_responses_call_and_are_told_what_came_of_it(sqlite_store: Store) -> None:
    asked: Any = [{"role": "user", "content": "Weather in Oslo?"}]
    engine = ScriptedEngine(f"I look. {CALL}")
    async with web(engine, sqlite_store) as site, client_of(site) as client:
        whole = await client.responses.create(model="m", input=asked, tools=FUNCTIONS)
        words, call = whole.output
        assert (whole.status, whole.output_text, words.type) == ("completed", "I look.", "message")
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
        assert whole.tools[0].type == "function"
        assert (whole.tool_choice, whole.parallel_tool_calls) == ("auto", True)
        engine.answer = CALL
        kinds, last = list[str](), whole
        async with client.responses.stream(
            model="m", input=asked, tools=FUNCTIONS, tool_choice="required", parallel_tool_calls=False
        ) as stream:
            async for event in stream:
                kinds.append(event.type)
            last = await stream.get_final_response()
        assert kinds == [
            "response.created", "response.in_progress", "response.output_item.added",
            "response.function_call_arguments.delta", "response.function_call_arguments.done",
            "response.output_item.done", "response.completed",
        ]  # fmt: skip
        (call,) = last.output
        assert call.type == "function_call"
        assert (last.tool_choice, last.parallel_tool_calls) == ("required", False)
        engine.answer = "12 degrees."
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
        items: Any = [*asked, call.model_dump(), output]
        again = await client.responses.create(model="m", input=items, tools=FUNCTIONS, tool_choice="none")
        assert again.output_text == "12 degrees."
        assert "<tool_response>\n12\n" in engine.prompts[-1]
        assert CALL in engine.prompts[-1]
        with pytest.raises(openai.BadRequestError, match="no call before it"):
            await client.responses.create(model="m", input=[*asked, output], tools=FUNCTIONS)


async def test_a_strict_tool_is_called_with_what_fits_or_not_at_all(sqlite_store: Store) -> None:
    wrong = TaggedJson().written("weather", {"city": 5})
    async with web(ScriptedEngine(wrong), sqlite_store) as site, client_of(site) as client:
        asked: Any = {"model": "m", "input": "hi", "tools": FUNCTIONS}
        with pytest.raises(openai.InternalServerError, match="strict: what the model calls weather with"):
            await client.responses.create(**asked)
        loose: Any = {**asked, "tools": [{**FUNCTIONS[0], "strict": False}]}
        assert (await client.responses.create(**loose)).output[0].type == "function_call"


FUNCTION = TOOLS[0]["function"]
NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{**TOOLS[0], "cache": True}]}, "tools.0.cache"),
        (
            {"tools": [{"type": "function", "function": {**FUNCTION, "returns": {}}}]},
            "tools.0.function.returns",
        ),
        ({"tools": [{"type": "custom", "function": FUNCTION}]}, "tools.0.type"),
        ({"tools": FUNCTIONS}, "tools.0.function"),
        ({"tools": [*TOOLS, *TOOLS]}, "tools"),
        ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {**NAMED, "mode": "auto"}}, "tool_choice.mode"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "weather"}}, "tool_choice.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "else"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED, "tools": []}, "tool_choice"),
        ({"tools": TOOLS, "parallel_tool_calls": "perhaps"}, "parallel_tool_calls"),
    ],
)
async def test_what_is_not_known_of_tools_is_refused_by_its_name(fields: dict[str, Any], field: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    with pytest.raises(BadRequest) as refused:
        openai_completions(parse(ChatCompletionRequest, json.dumps(body).encode()), UserKey("web", "1"), "s")
    assert refused.value.field == field


CALLED = {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": TOOLS}, "tools.0.name"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0.type"),
        ({"tools": [{**FUNCTIONS[0], "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": FUNCTIONS, "tool_choice": NAMED}, "tool_choice.name"),
        ({"tools": FUNCTIONS, "tool_choice": {"type": "web_search_preview"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": [{**CALLED, "arguments": "{"}]}, "input.0"),
        ({"input": [{**CALLED, "call_id": ""}]}, "input.0.call_id"),
        ({"input": [{"type": "web_search_call", "id": "1"}]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "input.0"),
        ({"input": [{"type": [1] * 999}]}, "input.0"),
        ({"input": [5]}, "input.0"),
        ({"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_object", "schema": SCHEMA}}}, "text.format.schema"),
    ],
)
async def test_and_so_is_what_is_not_known_of_a_response(fields: dict[str, Any], field: str) -> None:
    body = json.dumps({"input": "hi", **fields}).encode()
    with pytest.raises(BadRequest) as refused:
        response_completion(parse(ResponsesRequest, body), Program(UserKey("web", "1"), "s"))
    assert refused.value.field == field
