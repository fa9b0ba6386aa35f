"""A call's opening is waited for without a look at the grammar, and nothing else may be said for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.masked import allowed
from glmbot.engine.call_forms import call_form
from glmbot.engine.free_text import FreeText, Place
from glmbot.engine.grammars import Before
from glmbot.engine.masks import FormMatcher, compiler_of
from glmbot.forms import Form, FormKind
from glmbot.models.calls.bare import MistralCalls
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import TaggedJson
from glmbot.models.registry import load
from glmbot.tools import Choice, Offer, ToolDescription

TOOLS = [ToolDescription("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}})]
THINKING = Before(may_think=True, opening=1, closing=0)
SYNTAXES: dict[str, tuple[CallSyntax, dict[str, int]]] = {
    "text": (TaggedJson(), {}),
    "control token": (TaggedJson(), {"<tool_call>": 1, "</tool_call>": 0}),
    "a list": (MistralCalls(), {"[TOOL_CALLS]": 1}),
}
KINDS: dict[str, tuple[Form | None, Before]] = {
    **{
        name: (call_form(syntax, Offer(TOOLS), special), Before())
        for name, (syntax, special) in SYNTAXES.items()
    },
    "behind a thought": (call_form(TaggedJson(), Offer(TOOLS), {}), THINKING),
    "in a thought": (call_form(TaggedJson(), Offer(TOOLS), {}), replace(THINKING, inside=True)),
    "behind a space": (call_form(TaggedJson(), Offer(TOOLS), {}), Before(space=True)),
    "an expression behind a thought": (Form(FormKind.REGEX, "[a-z ]*[0-9]"), THINKING),
}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load(tiny_model, "sdpa")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_may_follow_is_what_the_grammar_says(model: Any, kind: str, data: st.DataObject) -> None:
    """Words, halves of characters, beginnings of the opening, the opening itself; guesses of any kind."""
    form, before = KINDS[kind]
    assert form is not None
    compiler: Any = _compilers.setdefault(id(model), compiler_of(model, thinks=True))
    matcher, text = compiler._copy((form, before), "a")
    assert text is not None
    size = compiler._tokenizer.vocab_size
    free = FormMatcher(matcher, model.stop_tokens, size, text)
    held = FormMatcher(matcher.deep_copy(), model.stop_tokens, size)
    encode = model.chat_format.encode_text
    pieces = [
        encode(piece) for piece in ("<tool", "<tool_call>", "_call", "<", "The fox", "你好", "🙂", "[TOOL")
    ]
    for _ in range(12):
        guessed = data.draw(st.lists(st.integers(0, size - 1), max_size=2) | st.sampled_from(pieces))
        expected, found = held.masks(guessed), free.masks(guessed)
        may = allowed(expected[0], size)
        for at, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            if theirs is not None:
                assert allowed(mine, size) == allowed(theirs, size), (at, guessed)
        wish = data.draw(st.sampled_from([*(piece[0] for piece in pieces), 0, 1]))
        if data.draw(st.booleans()) or wish not in may:
            wish = data.draw(st.sampled_from(sorted(may)))
        if wish in model.stop_tokens:
            return
        free.take(wish)
        held.take(wish)
        assert free.ended == held.ended


_compilers: dict[int, Any] = {}


def test_an_answer_of_words_is_never_shown_to_the_grammar(model: Any) -> None:
    compiler: Any = compiler_of(model, thinks=True)
    form = call_form(TaggedJson(), Offer(TOOLS), {})
    first = compiler.compile(form, [0])
    words = model.chat_format.encode_text("The quick brown fox < jumps over the lazy dog. 你好，世界。")
    for token in words:
        first.masks()
        first.take(token)
    second = compiler.compile(form, [0])
    second._matcher = None
    for token in words[:-1]:
        second.masks()
        second.take(token)


def test_one_that_has_to_call_has_no_words(model: Any) -> None:
    form = call_form(TaggedJson(), Offer(TOOLS, Choice.REQUIRED), {})
    assert form is not None
    assert form.opening is None


@given(
    opening=st.text("ab<", min_size=1, max_size=5).map(str.encode),
    pieces=st.lists(st.text("ab<字", min_size=1, max_size=3).map(str.encode), max_size=12),
)
def test_a_place_is_how_much_of_the_opening_the_text_ends_with(opening: bytes, pieces: list[bytes]) -> None:
    free = FreeText(opening, dict(enumerate(pieces)).get)
    place, said = Place(), b""
    for token, piece in enumerate(pieces):
        said += piece
        then = free.after(place, token)
        if opening in said:
            assert then is None
            return
        assert then is not None
        assert then.begun == max(size for size in range(len(opening)) if said.endswith(opening[:size]))
        place = then
    assert free.after(place, len(pieces)) is None, "no text"


@given(text=st.text(max_size=6), cuts=st.lists(st.integers(1, 3), max_size=24))
def test_a_part_of_a_character_is_told_from_a_whole_one(text: str, cuts: list[int]) -> None:
    written = text.encode()
    pieces: list[bytes] = []
    for cut in cuts:
        pieces, written = [*pieces, written[:cut]], written[cut:]
    free = FreeText(b"<", dict(enumerate(pieces)).get)
    place, said = Place(), b""
    for token, piece in enumerate(pieces):
        said += piece
        then = free.after(place, token)
        if then is None:
            return
        whole = said.decode(errors="ignore").encode()
        assert then.part == said[len(whole) :]
        place = then
