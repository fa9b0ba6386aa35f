"""OpenAI's own client: its loop of tools, and its structured outputs, over chats and over responses."""

from __future__ import annotations

import json
import os
from typing import Any

import openai
from checks import checked
from pydantic import BaseModel, Field

CLIENT = openai.OpenAI(base_url=os.environ["RIG_URL"], api_key="none", max_retries=0, timeout=120)
ASKED: Any = [{"role": "user", "content": "What is the weather in Oslo and in Bergen?"}]
COMMON: Any = {"model": "any", "temperature": 0}


class Weather(BaseModel):
    """Tells the weather of a city."""

    city: str = Field(max_length=30)


class Place(BaseModel):
    city: str = Field(max_length=30)
    degrees: int = Field(ge=-99, le=99)


TOOL = openai.pydantic_function_tool(Weather, name="weather")
FUNCTION: Any = {"type": "function", **TOOL["function"]}


def result(arguments: str) -> str:
    return f"12 degrees in {json.loads(arguments)['city']}"


def a_loop_of_tools() -> None:
    messages = list(ASKED)
    first = CLIENT.chat.completions.create(messages=messages, tools=[TOOL], **COMMON).choices[0]
    assert first.finish_reason == "tool_calls", first
    messages.append(first.message)
    for call in first.message.tool_calls or []:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result(call.function.arguments)})
    assert len(messages) == 4, messages
    last = CLIENT.chat.completions.create(messages=messages, tools=[TOOL], **COMMON).choices[0]
    assert last.message.content == "It is 12 degrees in Oslo and 12 degrees in Bergen.", last


def a_streamed_loop_of_tools() -> None:
    with CLIENT.chat.completions.stream(messages=ASKED, tools=[TOOL], **COMMON) as stream:
        deltas = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        calls = stream.get_final_completion().choices[0].message.tool_calls or []
    assert deltas
    assert [call.function.parsed_arguments for call in calls] == [
        Weather(city="Oslo"),
        Weather(city="Bergen"),
    ]


def a_loop_of_responses() -> None:
    items = list(ASKED)
    first = CLIENT.responses.create(input=items, tools=[FUNCTION], **COMMON)
    items += first.output
    for item in first.output:
        if item.type == "function_call":
            output = {
                "type": "function_call_output",
                "call_id": item.call_id,
                "output": result(item.arguments),
            }
            items.append(output)
    assert len(items) == 5, items
    last = CLIENT.responses.create(input=items, tools=[FUNCTION], **COMMON)
    assert last.output_text == "It is 12 degrees in Oslo and 12 degrees in Bergen.", last


def a_streamed_response_that_calls() -> None:
    with CLIENT.responses.stream(input=ASKED, tools=[FUNCTION], **COMMON) as stream:
        kinds = [event.type for event in stream]
        last = stream.get_final_response()
    assert kinds.count("response.function_call_arguments.done") == 2, kinds
    assert [item.name for item in last.output if item.type == "function_call"] == ["weather"] * 2


def a_call_that_has_to_come() -> None:
    for _ in range(3):
        said = CLIENT.chat.completions.parse(
            messages=ASKED, tools=[TOOL], tool_choice="required", max_tokens=300, **COMMON
        )
        calls = said.choices[0].message.tool_calls or []
        assert calls
        assert all(isinstance(call.function.parsed_arguments, Weather) for call in calls), calls


def a_response_that_has_to_call() -> None:
    choice: Any = {"type": "function", "name": "weather"}
    said = CLIENT.responses.parse(
        input=ASKED, tools=[FUNCTION], tool_choice=choice, max_output_tokens=300, **COMMON
    )
    (call, *_) = [item for item in said.output if item.type == "function_call"]
    Weather.model_validate_json(call.arguments)


def a_parsed_chat() -> None:
    said = CLIENT.chat.completions.parse(messages=ASKED, response_format=Place, max_tokens=200, **COMMON)
    assert isinstance(said.choices[0].message.parsed, Place), said


def a_parsed_stream() -> None:
    with CLIENT.chat.completions.stream(
        messages=ASKED, response_format=Place, max_tokens=200, **COMMON
    ) as stream:
        assert [event for event in stream if event.type == "content.delta"]
        last = stream.get_final_completion()
    assert isinstance(last.choices[0].message.parsed, Place), last


def a_parsed_response() -> None:
    said = CLIENT.responses.parse(input=ASKED, text_format=Place, max_output_tokens=200, **COMMON)
    assert isinstance(said.output_parsed, Place), said


def a_parsed_stream_of_a_response() -> None:
    with CLIENT.responses.stream(input=ASKED, text_format=Place, max_output_tokens=200, **COMMON) as stream:
        assert [event for event in stream if event.type == "response.output_text.delta"]
        last = stream.get_final_response()
    assert isinstance(last.output_parsed, Place), last


if os.environ["RIG_KIND"] == "scripted":
    checked(a_loop_of_tools, a_streamed_loop_of_tools, a_loop_of_responses, a_streamed_response_that_calls)
checked(
    a_call_that_has_to_come,
    a_response_that_has_to_call,
    a_parsed_chat,
    a_parsed_stream,
    a_parsed_response,
    a_parsed_stream_of_a_response,
)
