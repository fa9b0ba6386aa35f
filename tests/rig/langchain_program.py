"""LangChain's agent and its structured outputs, over chats and over responses."""

from __future__ import annotations

import os
from typing import Any

from checks import checked
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

ASKED: Any = {"messages": [{"role": "user", "content": "What is the weather in Oslo and in Bergen?"}]}
SAID = "It is 12 degrees in Oslo and 12 degrees in Bergen."


class Place(BaseModel):
    """A place and how warm it is."""

    city: str = Field(max_length=30)
    degrees: int = Field(ge=-99, le=99)


@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"12 degrees in {city}"


def model(*, responses: bool = False) -> ChatOpenAI:
    return ChatOpenAI(
        model="any",
        base_url=os.environ["RIG_URL"],
        api_key="none",
        temperature=0,
        max_tokens=300,
        max_retries=0,
        use_responses_api=responses,
    )


def an_agent() -> None:
    last = create_agent(model(), [weather]).invoke(ASKED)["messages"][-1]
    assert last.text == SAID, last


def an_agent_of_responses() -> None:
    last = create_agent(model(responses=True), [weather]).invoke(ASKED)["messages"][-1]
    assert last.text == SAID, last


def a_streamed_agent() -> None:
    parts = [
        part.text
        for part, told in create_agent(model(), [weather]).stream(ASKED, stream_mode="messages")
        if told["langgraph_node"] == "model"
    ]
    assert "".join(parts) == SAID, parts


def an_agent_with_a_form() -> None:
    said = create_agent(model(), [weather], response_format=Place).invoke(ASKED)
    assert said["structured_response"] == Place(city="Oslo", degrees=12), said


def a_call_that_has_to_come() -> None:
    said = model().bind_tools([weather], tool_choice="required").invoke("The weather in Oslo?")
    assert said.tool_calls, said
    assert all(isinstance(call["args"]["city"], str) for call in said.tool_calls)
    assert not said.invalid_tool_calls


def a_structured_output() -> None:
    for method in ("json_schema", "function_calling"):
        said = model().with_structured_output(Place, method=method).invoke("The weather in Oslo?")
        assert isinstance(said, Place), (method, said)


def a_structured_output_of_a_response() -> None:
    said = model(responses=True).with_structured_output(Place, method="json_schema").invoke("In Oslo?")
    assert isinstance(said, Place), said


def a_streamed_structured_output() -> None:
    parts = list(model().with_structured_output(Place, method="json_schema").stream("The weather in Oslo?"))
    assert isinstance(parts[-1], Place), parts


if os.environ["RIG_KIND"] == "scripted":
    checked(an_agent, an_agent_of_responses, a_streamed_agent, an_agent_with_a_form)
checked(
    a_call_that_has_to_come,
    a_structured_output,
    a_structured_output_of_a_response,
    a_streamed_structured_output,
)
