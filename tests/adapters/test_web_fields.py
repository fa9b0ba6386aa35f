"""Which fields of a program's request are taken, and which are refused by name: none is silently ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from glmbot.keys import UserKey
from glmbot_web.bodies import BadRequest, parse
from glmbot_web.normalize import ChatCompletionRequest, ChatGlmRequest, chatglm_completion, openai_completions

HELLO = [{"role": "user", "content": "hello"}]
PROGRAM = UserKey("web", "1")


def asked(messages: Any = HELLO, **fields: Any) -> ChatCompletionRequest:
    return parse(ChatCompletionRequest, json.dumps({"messages": messages, **fields}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]), ("tool_choice", "required"),
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


def test_calls_of_tools_in_a_message_are_refused() -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function"}]}
    with pytest.raises(BadRequest, match="not supported here") as refused:
        asked([*HELLO, called, *HELLO])
    assert refused.value.field == "messages.1.tool_calls"


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
