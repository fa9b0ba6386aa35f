"""Text while tokens arrive: no half characters, no lost spaces, no stop text shown."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.detokenizer import Detokenizer


def from_bytes(tokens: Sequence[int]) -> str:
    """The hardest tokenizer: one token a byte."""
    return bytes(tokens).decode("utf-8", "replace")


@given(st.text(max_size=60))
def test_snapshots_grow_to_the_whole_text_and_never_show_half_a_character(text: str) -> None:
    detokenizer = Detokenizer(from_bytes)
    shown = ""
    for byte in text.encode():
        detokenizer.push(byte)
        assert detokenizer.text.startswith(shown)
        assert text.startswith(detokenizer.text)
        shown = detokenizer.text
    assert detokenizer.finish() == text


@given(st.text("a你🙂é", max_size=40), st.lists(st.integers(1, 6), min_size=60, max_size=60))
def test_a_token_may_end_one_character_and_begin_another_as_often_as_it_likes(
    text: str, sizes: list[int]
) -> None:
    written, tokens = text.encode(), list[bytes]()
    for size in sizes:
        tokens.append(written[:size])
        written = written[size:]
    tokens.append(written)
    known = [token for token in tokens if token]
    detokenizer = Detokenizer(lambda ids: b"".join(known[each] for each in ids).decode("utf-8", "replace"))
    for number in range(len(known)):
        detokenizer.push(number)
        assert text.startswith(detokenizer.text)
    assert detokenizer.finish() == text


@given(st.binary(max_size=60))
def test_bytes_that_are_no_text_never_stop_the_stream(content: bytes) -> None:
    detokenizer = Detokenizer(from_bytes)
    for byte in content:
        detokenizer.push(byte)
    detokenizer.push(ord("!"))
    assert detokenizer.finish().endswith("!")


def test_a_long_run_of_bad_bytes_is_shown_in_time() -> None:
    detokenizer = Detokenizer(from_bytes)
    for _ in range(12):
        detokenizer.push(0x80)
    assert detokenizer.text


def test_spaces_that_a_tokenizer_drops_at_the_start_of_a_text_are_kept() -> None:
    words = [" hello", " big", " world"]

    def decode(tokens: Sequence[int]) -> str:
        return "".join(words[token] for token in tokens).lstrip()

    detokenizer = Detokenizer(decode)
    for token in range(3):
        detokenizer.push(token)
    assert detokenizer.finish() == "hello big world"


@given(st.text("ab。", max_size=30), st.lists(st.text("ab。", min_size=1, max_size=3), max_size=3))
def test_a_stop_text_ends_the_answer_before_it_and_no_part_of_it_is_ever_shown(
    text: str, stops: list[str]
) -> None:
    detokenizer = Detokenizer(from_bytes, stops)
    found = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    expected = text[: min(found)[1]] if found else text
    for byte in text.encode():
        if not detokenizer.stopped:
            detokenizer.push(byte)
        assert expected.startswith(detokenizer.text)
    assert detokenizer.finish() == expected
    assert detokenizer.stopped == bool(found)
