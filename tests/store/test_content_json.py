"""Parts as JSON: what was written comes back, later releases' parts are dropped, wrong ones named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.content import Media, MediaKind, Part, Text, Thought, ToolCall, ToolResult, checked, of_words
from glmbot.store.content_json import parts_from_json, parts_to_json

DIGEST = "0a" * 32
SECRET = "what Ann said 4711"
PARTS: st.SearchStrategy[list[Part]] = st.lists(
    st.builds(Text, st.text())
    | st.builds(Thought, st.text())
    | st.builds(
        Media,
        st.sampled_from(MediaKind),
        st.just("a/b"),
        st.just(DIGEST),
        st.integers(0, 99),
        st.just("字.png"),
    ),
    max_size=5,
).map(lambda parts: [*parts, ToolCall("1", "f", '{"a": "字"}'), ToolResult("1", "x", failed=True)])


@given(PARTS, PARTS)
def test_what_was_written_comes_back(asked: list[Part], said: list[Part]) -> None:
    assert parts_from_json(parts_to_json(asked, said)) == (checked(asked), checked(said))


@pytest.mark.parametrize("words", ["", "hi"])
def test_what_is_nothing_but_words_is_not_written(words: str) -> None:
    assert parts_to_json(of_words("hi"), of_words(words)) == ""
    assert parts_from_json("") == ((), ())


def test_what_only_a_later_release_knows_is_dropped() -> None:
    said: list[dict[str, Any]] = [
        {"type": "video", "digest": "?"},
        {"type": ["?"]},
        {"mood": "good"},
        {"type": "text", "text": "hi", "mood": "good"},
        {"type": "result", "id": "of a call that is none here", "text": "x"},
    ]
    assert parts_from_json(json.dumps({"said": said, "heard": 5})) == ((), (Text("hi"),))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "text", "text": {SECRET: 1}}, "text"),
        ({"type": "thought"}, "text"),
        ({"type": "image", "media_type": SECRET, "digest": DIGEST, "size": 1}, "media_type"),
        ({"type": "image", "media_type": "a/b", "digest": SECRET, "size": 1}, "digest"),
        ({"type": "file", "media_type": "a/b", "digest": DIGEST, "size": SECRET}, "size"),
        ({"type": "call", "id": "1", "name": SECRET}, "name"),
        ({"type": "call", "id": "1", "name": "f", "arguments": SECRET}, "arguments"),
        ({"type": "result", "id": 4711, "text": ""}, "id"),
        (SECRET, "said"),
    ],
)
def test_a_wrong_value_is_refused_by_its_fields_name_and_not_repeated(part: object, field: str) -> None:
    with pytest.raises(ValueError, match=field) as refused:
        parts_from_json(json.dumps({"said": [part]}))
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize(
    "worst", ["{", "[]", "7", "[" * 100_000, '{"said": 5}', json.dumps({"said": [{}] * 257})]
)
def test_what_are_no_parts_is_refused(worst: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parts_from_json(worst)
