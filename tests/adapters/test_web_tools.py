"""The openai client's loop of tools, in process."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from adapters.scripted import ScriptedEngine
from adapters.test_openai_api import client_of
from adapters.test_web import web
from glmbot.models.calls.tagged import TaggedJson
from glmbot.store.base import Store

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
