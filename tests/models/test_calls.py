"""Calls are read out of growing answers in each format, wherever an answer is cut."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glmbot.models.calls.bare import LlamaJson, MistralCalls
from glmbot.models.calls.lines import NameAndCode, NameAndJson
from glmbot.models.calls.reader import MOST_CALLS, CallReader, call_id
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import KeysAndValues, TaggedJson

SYNTAXES: dict[str, CallSyntax] = {
    "hermes": TaggedJson(),
    "glm-4.5": KeysAndValues(),
    "llama": LlamaJson(),
    "mistral": MistralCalls(),
    "mistral, named": MistralCalls(named=True),
    "glm-4": NameAndJson(),
    "chatglm3": NameAndCode(),
}
TOOLS: dict[str, dict[str, Any]] = {
    "weather": {"type": "object", "properties": {"city": {"type": "string"}}},
    "weather-map": {},
    "add": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}

PIECES = [
    "<tool_call>", "</tool_call>", '{"name": "weather"', '"arguments": {}}', "weather\n", "[TOOL_CALLS]", "[", "{", "}",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", " ```python\ntool_call(", ")\n```", "<|python_tag|>",
    "[ARGS]", "nothing\n{}",
]  # fmt: skip
words = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\r"), max_size=12
) | st.sampled_from(
    [
        '"',
        "\\",
        "}",
        "</tool_call>",
        "{}",
        "```",
        "')\n```",
        "\n",
        "<tool_call>",
        "[TOOL_CALLS]",
        "北京",
        "𝒳",
        "\ue0a0",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: name != "city")
arguments = st.dictionaries(names, values, max_size=3)
plain = st.text("abc 你好.,\n", max_size=20)
calls = st.lists(st.tuples(st.sampled_from(sorted(TOOLS)), arguments), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("syntax", "answer"),
    [
        (LlamaJson(), '{"name": "add", "parameters": {"a": NaN}}'),
        (LlamaJson(), '{"name": "add", "parameters": {"a": 1e999}}'),
        (TaggedJson(), '<tool_call>{"name": "add", "arguments": "{\\"a\\": -Infinity}"}</tool_call>'),
        (NameAndJson(), 'add\n{"a": 1e999}'),
    ],
)
def test_arguments_that_json_cannot_say_are_no_call(syntax: CallSyntax, answer: str) -> None:
    assert CallReader([syntax], TOOLS).end(answer) == (answer, [])


def test_a_number_that_no_json_can_say_stays_as_it_was_written() -> None:
    answer = KeysAndValues().written("add", {"a": "1e999"})
    _, (call,) = CallReader([KeysAndValues()], TOOLS).end(answer)
    assert json.loads(call.arguments) == {"a": "1e999"}


def test_an_answer_full_of_openings_is_read_in_no_time() -> None:
    answer = '<|python_tag|>{"name":' * 3000
    began = time.process_time()
    assert CallReader([LlamaJson()], TOOLS).end(answer) == (answer, [])
    assert time.process_time() - began < 2


def said_of(syntax: CallSyntax, before: str, wanted: list[tuple[str, dict[str, Any]]]) -> str:
    written = [syntax.written(name, arguments) for name, arguments in wanted]
    if isinstance(syntax, LlamaJson):
        return "; ".join(written)
    return "\n".join([before, *written])


def read_in_steps(
    syntax: CallSyntax, answer: str, steps: list[int]
) -> list[tuple[str, list[tuple[str, str]]]]:
    reader = CallReader([syntax], TOOLS)
    seen: list[tuple[str, list[tuple[str, str]]]] = []
    for end in [*sorted({step % (len(answer) + 1) for step in steps}), None]:
        text, found = reader.read(answer[:end]) if end is not None else reader.end(answer)
        seen.append((text, [(call.name, call.arguments) for call in found if call.whole]))
    return seen


def as_read(syntax: CallSyntax, arguments: dict[str, Any]) -> dict[str, Any]:
    """A text that is no parameter's of type string can't be told from JSON there."""
    if not isinstance(syntax, KeysAndValues):
        return arguments
    return {key: _or_json(value) if isinstance(value, str) else value for key, value in arguments.items()}


def _or_json(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


@settings(max_examples=25)
@pytest.mark.parametrize("name", sorted(SYNTAXES))
@given(plain, calls, st.lists(st.integers(0, 10**6), max_size=12))
@example("a", [("add", {"x": {"</tool_call>": None}, "y": None})], list(range(300)))
@example("Let me see.", [("weather", {"x": "</tool_call>"}), ("add", {"a_": 1.5})], list(range(300)))
@example("", [("add", {"from": "Oslo, from=here", "to": "(in = x", "None": {"class": 1}})], list(range(300)))
@example("", [("add", {"from": "named_", "named_from": 1})], [])
def test_calls_are_read_wherever_the_answer_is_cut(
    name: str, before: str, wanted: list[tuple[str, dict[str, Any]]], steps: list[int]
) -> None:
    syntax = SYNTAXES[name]
    answer = said_of(syntax, before, wanted)
    if isinstance(syntax, KeysAndValues) and any("</arg_value>" in repr(each) for each in wanted):
        return
    seen = read_in_steps(syntax, answer, steps)
    text, found = seen[-1]
    assert [(name, json.loads(arguments)) for name, arguments in found] == [
        (name, as_read(syntax, arguments)) for name, arguments in wanted
    ]
    assert text.strip() == ("" if isinstance(syntax, LlamaJson) else before.strip())
    for (shorter, fewer), (longer, more) in zip(seen, seen[1:], strict=False):
        assert longer.startswith(shorter)
        assert more[: len(fewer)] == fewer


@settings(max_examples=30)
@pytest.mark.parametrize("name", sorted(SYNTAXES))
@given(
    st.lists(words | plain | st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.integers(0, 10**6), max_size=12),
)
def test_whatever_is_said_nothing_is_raised_and_what_was_shown_stays(
    name: str, answer: str, steps: list[int]
) -> None:
    seen = read_in_steps(SYNTAXES[name], answer, steps)
    for (shorter, fewer), (longer, more) in zip(seen, seen[1:], strict=False):
        assert longer.startswith(shorter)
        assert more[: len(fewer)] == fewer
    text, found = seen[-1]
    assert found or text == answer
    for tool, arguments in found:
        assert tool in TOOLS
        assert isinstance(json.loads(arguments), dict)


@pytest.mark.parametrize(
    "answer",
    [
        '<tool_call>\n{"name": "format_disk", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "weathеr", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": {',
        '{"name": "nobody", "parameters": {}}',
        '{"answer": 42}',
        '[TOOL_CALLS] [{"name": "weather"}, 3]',
        "weather\nis fine",
        "weather\n ```python\ntool_call(__import__('os').getcwd())\n```",
        "weather\n ```python\ntool_call(city=open('x'))\n```",
    ],
)
def test_what_is_no_call_of_an_offered_tool_stays_in_the_text(answer: str) -> None:
    for syntax in SYNTAXES.values():
        reader = CallReader([syntax], TOOLS)
        for end in range(len(answer)):
            assert answer.startswith(reader.read(answer[:end])[0])
        assert reader.end(answer) == (answer, [])


def test_formats_that_models_slip_into_are_read_as_well() -> None:
    for answer in (
        '<tool_call>{"name": "weather", "parameters": {"city": "Oslo"}}',
        '<tool_call>\n{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}\n</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}</tool_call>',
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
    ):
        assert [
            (call.name, json.loads(call.arguments))
            for call in CallReader([TaggedJson()], TOOLS).end(answer)[1]
        ] == [("weather", {"city": "Oslo"})]


def test_a_number_of_calls_is_read_and_no_more() -> None:
    answer = TaggedJson().written("weather", {}) * (MOST_CALLS + 3)
    text, found = CallReader([TaggedJson()], TOOLS).end(answer)
    assert len(found) == MOST_CALLS
    assert text.count("<tool_call>") == 3


def test_what_was_begun_is_no_call() -> None:
    begun = TaggedJson().written("weather", {})
    reader = CallReader([TaggedJson()], TOOLS, known=len(begun))
    assert reader.end(begun + " and more") == (begun + " and more", [])


def test_ids_are_those_that_templates_take() -> None:
    ids = {call_id(answer, number) for answer in range(40) for number in range(MOST_CALLS)}
    assert len(ids) == 40 * MOST_CALLS
    assert all(len(each) == 9 and each.isalnum() and each.isascii() for each in ids)
