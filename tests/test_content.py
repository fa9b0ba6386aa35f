"""Parts of what is said: their bounds, and the words of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.content import (
    LONGEST_TEXT,
    MOST_PARTS,
    Media,
    MediaKind,
    Part,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    all_words_of,
    checked,
    of_words,
    parts_of,
    thought_of,
    words_of,
)
from glmbot.engine.base import ChatTurn, Conversation, PastExchange

DIGEST = "0a" * 32
PICTURE = Media(MediaKind.IMAGE, "image/png", DIGEST, 20_481, "Tafel 黑板.png")
ANSWER = (
    Thought("Chalk…"),
    ToolCall("1", "look", '{"at": "board"}'),
    ToolResult("1", "2 + 2"),
    Text("A sum."),
)

WRONG: list[tuple[str, Callable[[], Part]]] = [
    ("text", lambda: Text(cast(Any, 5))),
    ("text", lambda: Text("x" * (LONGEST_TEXT + 1))),
    ("thought", lambda: Thought(cast(Any, None))),
    *(("kind", lambda kind=kind: Media(kind, "image/png", DIGEST, 1)) for kind in cast(Any, ("image", "film", None))),
    *(
        ("media_type", lambda given=given: Media(MediaKind.FILE, given, DIGEST, 1))
        for given in cast(Any, ("", "png", "image/", "Image/PNG", "a/b/c", "text/plain; charset=x", "a/b\n", "a" * 128 + "/b", 5))
    ),
    *(
        ("digest", lambda given=given: Media(MediaKind.FILE, "a/b", given, 1))
        for given in cast(Any, ("", "0a", DIGEST.upper(), DIGEST + "0", "../" * 21 + "a", DIGEST[:-1] + "\n", b"0a" * 32))
    ),
    *(
        ("size", lambda given=given: Media(MediaKind.FILE, "a/b", DIGEST, given))
        for given in cast(Any, (-1, 2**53, 1.0, True, "1", None))
    ),
    *(
        ("name", lambda given=given: Media(MediaKind.FILE, "a/b", DIGEST, 1, given))
        for given in cast(Any, ("a/b", "a\\b", "..", ".", "a\nb", "a\0", "\u2028", "\x85", "字" * 86, "\ud800", 5))
    ),
    *(("id", lambda given=given: ToolCall(given, "f")) for given in cast(Any, ("", "x" * 129, "\n", "\udfff", 5))),
    *(("name", lambda given=given: ToolCall("1", given)) for given in cast(Any, ("", "a b", "ä", "a" * 65, "a\n", 5))),
    *(
        ("arguments", lambda given=given: ToolCall("1", "f", given))
        for given in cast(Any, ("", "[]", "{", "{} {}", "null", "[" * 100_000, 5))
    ),
    ("id", lambda: ToolResult("", "x")),
    ("text", lambda: ToolResult("1", cast(Any, b"x"))),
    ("failed", lambda: ToolResult("1", "x", cast(Any, "no"))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "part"), WRONG)
def test_a_part_is_refused_by_the_name_of_what_is_wrong(name: str, part: Callable[[], Part]) -> None:
    with pytest.raises(ValueError, match=rf"^{name} \w+"):
        part()


def test_a_part_is_a_value() -> None:
    assert {Text("a"), Text("a"), Thought("a")} == {Text("a"), Thought("a")}
    with pytest.raises(FrozenInstanceError):
        PICTURE.size = 5  # type: ignore[misc]


@given(st.text(st.characters(codec=None)))
def test_words_are_made_valid_unicode(text: str) -> None:
    for said in (Text(text).text, Thought(text).text, ToolResult("1", text).text):
        said.encode()
        if not any("\ud800" <= char <= "\udfff" for char in text):
            assert said == text


@given(st.text(), st.text())
def test_what_is_nothing_but_words_has_these_words(text: str, thought: str) -> None:
    content = checked(of_words(text, thought))
    assert (words_of(content), thought_of(content)) == (text, thought)
    assert not of_words("")


def test_only_text_is_said_in_words() -> None:
    content = checked((Text("Look:"), PICTURE, *ANSWER))
    assert words_of(content) == "Look:\n\nA sum."
    assert thought_of(content) == "Chalk…"
    assert parts_of(content, Media) == [PICTURE]
    assert parts_of(content, ToolCall) == [ANSWER[1]]


def test_who_looks_at_all_of_it_is_shown_whatever_can_be_read() -> None:
    call = ToolCall("2", "look", r'{"at": "\u9ed1\u677f"}')
    words = all_words_of(checked((Text("Look:"), PICTURE, *ANSWER, call)))
    for said in (
        "Look:",
        "Tafel 黑板.png",
        "Chalk…",
        "look",
        '{"at": "board"}',
        "2 + 2",
        "A sum.",
        '{"at": "黑板"}',
    ):
        assert said in words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([Text("a")] * (MOST_PARTS + 1), "257 parts"),
        ([ToolResult("1", "x")], "no call"),
        ([ToolResult("1", "x"), ToolCall("1", "f")], "no call"),
        ([ToolCall("1", "f"), ToolCall("1", "g")], "same id"),
        (["a"], "not str"),
    ],
)
def test_what_is_no_content_is_refused(content: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked(content)


def test_a_conversation_of_parts_has_the_words_of_them_for_engines_that_read_nothing_else() -> None:
    past = PastExchange((Text("What is it?"), PICTURE), ANSWER)
    asked = Conversation((Text("And"), PICTURE, Text("this?")), [past], "Be kind.", "It", 5)
    assert asked.question == "And\n\nthis?"
    assert list(asked.turns) == [ChatTurn("What is it?", "A sum.")]
    # Calls and their results count too: engines with more abilities read them.
    called = ("look", '{"at": "board"}', "2 + 2")
    words = ("And\n\nthis?", "What is it?", *called, "A sum.", "Be kind.", "It")
    assert asked.characters == sum(map(len, words))
    words = Conversation.of_words(asked.question, asked.turns, "Be kind.", "It", 5)
    assert (words.question, list(words.turns), words.begun) == (asked.question, list(asked.turns), "It")
