"""pydantic-ai's agent and its structured outputs, over chats and over responses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from checks import checked
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

ASKED = "What is the weather in Oslo and in Bergen?"
SAID = "It is 12 degrees in Oslo and 12 degrees in Bergen."


class Place(BaseModel):
    """A place and how warm it is."""

    city: str = Field(max_length=30)
    degrees: int = Field(ge=-99, le=99)


def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"12 degrees in {city}"


def agent(kind: Any = OpenAIChatModel, tools: Sequence[Any] = (), output: Any = str) -> Agent[None, Any]:
    model = kind("any", provider=OpenAIProvider(base_url=os.environ["RIG_URL"], api_key="none"))
    settings: Any = {"temperature": 0, "max_tokens": 300}
    return Agent(model, tools=tools, output_type=output, model_settings=settings, retries=0)


def an_agent() -> None:
    said = agent(tools=[weather]).run_sync(ASKED)
    assert said.output == SAID, said


def an_agent_of_responses() -> None:
    said = agent(OpenAIResponsesModel, [weather]).run_sync(ASKED)
    assert said.output == SAID, said


def a_streamed_agent() -> None:
    said = agent(tools=[weather]).run_stream_sync(ASKED)
    assert list(said.stream_text(delta=False))[-1] == SAID


def an_agent_with_a_form() -> None:
    said = agent(tools=[weather], output=Place).run_sync(ASKED)
    assert said.output == Place(city="Oslo", degrees=12), said


def a_form_by_a_call() -> None:
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        assert isinstance(agent(kind, output=Place).run_sync("The weather in Oslo?").output, Place)


def a_form_of_the_answer() -> None:
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        said = agent(kind, output=NativeOutput(Place)).run_sync("The weather in Oslo?")
        assert isinstance(said.output, Place), said


def a_streamed_form() -> None:
    said = agent(output=NativeOutput(Place)).run_stream_sync("The weather in Oslo?")
    assert isinstance(list(said.stream_output())[-1], Place)


if os.environ["RIG_KIND"] == "scripted":
    checked(an_agent, an_agent_of_responses, a_streamed_agent, an_agent_with_a_form)
checked(a_form_by_a_call, a_form_of_the_answer, a_streamed_form)
