"""Which fields of a program's request are taken, and which are refused by name: none is silently ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from glmbot.content import ToolCall
from glmbot.keys import UserKey
from glmbot.tools import Choice
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.normalize import ChatCompletionRequest, ChatGlmRequest, chatglm_completion, openai_completions

HELLO = [{"role": "user", "content": "hello"}]
PROGRAM = UserKey("web", "1")


def asked(messages: Any = HELLO, **fields: Any) -> ChatCompletionRequest:
    return parse(ChatCompletionRequest, json.dumps({"messages": messages, **fields}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{"name": "f"}]), ("function_call", {"name": "f"}), ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}), ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}), ("reasoning_effort", "high"), ("verbosity", "low"),
        ("temprature", 0.5), ("grammar", "root ::= x"), ("max_new_tokens", 5),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=rf"^{field}: not supported here$") as refused:
        asked(**{field: value})
    assert refused.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "tools": [], "tool_choice": "none"},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "response_format": {"type": "text"}},
        {"functions": [], "function_call": "none", "modalities": ["text"], "reasoning_effort": "none"},
        {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True},
        {"prompt_cache_key": "k", "safety_identifier": "s", "verbosity": "medium", "user": "u"},
        dict.fromkeys(("n", "logprobs", "tools", "response_format", "stop", "seed", "audio", "temperature")),
    ],
)
def test_what_asks_for_nothing_is_taken(fields: dict[str, Any]) -> None:
    assert openai_completions(asked(**fields), PROGRAM, "s")[0].turns == [("user", "hello")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 9), ("n", True), ("n", 0), ("logprobs", 5), ("top_logprobs", 21), ("top_logprobs", True), ("min_p", 1.1),
        ("logit_bias", {"x": 1}), ("logit_bias", {"5": 101}), ("logit_bias", {"-1": 1}), ("presence_penalty", 2.5),
        ("logit_bias", {str(token): 1 for token in range(1025)}), ("frequency_penalty", -3),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=rf"^{field}") as refused:
        asked(**{field: value})
    assert refused.value.field.startswith(field)


def test_an_answer_may_be_sent_back_as_it_came() -> None:
    answer = ChatCompletionMessage(role="assistant", content="Hi!", annotations=[]).model_dump()
    (completion,) = openai_completions(asked([*HELLO, answer, *HELLO]), PROGRAM, "s")
    assert [role for role, _ in completion.turns] == ["user", "assistant", "user"]


FUNCTION = {"name": "weather", "description": "Of a city.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "12"}


def test_tools_and_what_came_of_them_are_taken() -> None:
    (completion,) = openai_completions(
        asked([*HELLO, CALLED, RESULT], tools=TOOLS, parallel_tool_calls=False), PROGRAM, "s"
    )
    assert completion.turns == [("user", "hello"), ("assistant", ""), ("tool", "12")]
    assert completion.calls == {1: [ToolCall("c1", "weather", '{"city": "Oslo"}')]}
    assert completion.results == {2: "c1"}
    assert [tool.name for tool in completion.offer.tools] == ["weather"]
    assert not completion.offer.parallel
    named = {"type": "function", "function": {"name": "weather"}}
    (forced,) = openai_completions(asked(tools=TOOLS, tool_choice=named), PROGRAM, "s")
    assert (forced.offer.choice, forced.offer.name) == (Choice.REQUIRED, "weather")


@pytest.mark.parametrize(
    ("field", "messages", "fields"),
    [
        ("tools", HELLO, {"tools": TOOLS * 2}),
        ("tools", HELLO, {"tools": TOOLS * 129}),
        ("tools.0.type", HELLO, {"tools": [{"type": "web_search"}]}),
        ("tools.0.function", HELLO, {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
        ("tools.0.function", HELLO, {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]}),
        ("tool_choice", HELLO, {"tool_choice": "required"}),
        ("tool_choice", HELLO, {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}),
        ("messages.1.tool_call_id", [*HELLO, {"role": "tool", "content": "x"}], {}),
        ("messages.0.content", [{"role": "user"}], {}),
        ("messages.0.tool_calls", [{**CALLED, "role": "user"}], {}),
        ("messages.1.tool_calls.0", [*HELLO, {**CALLED, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "["}}]}], {}),
    ],
)  # fmt: skip
def test_what_is_wrong_about_tools_is_refused_by_its_name(
    field: str, messages: Any, fields: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest) as refused:
        openai_completions(asked(messages, **fields), PROGRAM, "s")
    assert refused.value.field == field


@pytest.mark.parametrize("nothing", [None, 0])
def test_chatglms_interface_takes_its_defaults_for_null_and_nought(nothing: int | None) -> None:
    body = {
        "prompt": "你好",
        "history": None,
        "max_length": nothing,
        "top_p": nothing,
        "temperature": nothing,
    }
    completion, prompt, history = chatglm_completion(
        parse(ChatGlmRequest, json.dumps(body).encode()), PROGRAM, "s"
    )
    assert (prompt, history) == ("你好", [])
    assert (completion.max_total_tokens, completion.top_p, completion.temperature) == (2048, 0.7, 0.95)
