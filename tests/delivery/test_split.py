"""Long answers in pieces: within the limit, nothing lost, fences whole, stable while the text grows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.delivery.split import split_markdown, utf16_length

words = st.sampled_from(
    [
        "word",
        "你好世界。",
        "🙂",
        "👨‍👩‍👧",
        "e\u0301",
        "**bold**",
        "`code`",
        "a b c",
        "x" * 90,
        "\u200f",
        "- item",
    ]
)
lines = st.lists(words, max_size=12).map(" ".join)
fences = st.builds(
    lambda info, body, mark: f"{mark}{info}\n{body}\n{mark}",
    st.sampled_from(["", "python", "text"]),
    st.lists(lines.map(lambda line: line.replace("`", "'")), max_size=8).map("\n".join),
    st.sampled_from(["```", "~~~", "````"]),
)
documents = st.lists(lines | fences, max_size=12).flatmap(
    lambda blocks: st.sampled_from(["\n", "\n\n"]).map(lambda gap: gap.join(blocks))
)


def without_fences(text: str) -> str:
    """Letters of the text with the fence lines left out, which splitting may repeat."""
    kept = [line for line in text.split("\n") if not re.fullmatch(r" {0,3}(`{3,}|~{3,})\w*", line)]
    return "".join("".join(kept).split())


@pytest.mark.parametrize("measure", [len, utf16_length])
@given(document=documents, limit=st.integers(64, 400))
def test_pieces_are_within_the_limit_and_together_the_whole_text(
    measure: object, document: str, limit: int
) -> None:
    pieces = split_markdown(document, limit, measure)  # pyright: ignore[reportArgumentType]
    assert all(measure(piece) <= limit for piece in pieces)  # pyright: ignore[reportCallIssue]
    assert "".join(map(without_fences, pieces)) == without_fences(document)
    assert document.strip() == "" or all(piece.strip() for piece in pieces)


@given(documents, st.integers(64, 400))
def test_every_piece_closes_the_fences_that_it_opens(document: str, limit: int) -> None:
    for piece in split_markdown(document, limit):
        open_marker = ""
        for line in piece.split("\n"):
            match = re.fullmatch(r" {0,3}(`{3,}|~{3,})(.*)", line)
            if match and not open_marker:
                if "`" not in match[2] or match[1][0] == "~":
                    open_marker = match[1]
            elif match and match[1].startswith(open_marker) and not match[2].strip():
                open_marker = ""
        assert not open_marker


@given(documents, st.integers(64, 300), st.data())
def test_a_piece_that_another_one_follows_never_changes_again(
    document: str, limit: int, data: st.DataObject
) -> None:
    whole = split_markdown(document, limit)
    early = split_markdown(document[: data.draw(st.integers(0, len(document)))], limit)
    settled = early[:-1]
    assert list(whole[: len(settled)]) == list(settled)


def test_cuts_fall_between_paragraphs_and_code_goes_on_in_its_language() -> None:
    first, second = "One. " * 15, "Two. " * 15
    assert split_markdown(f"{first.strip()}\n\n{second.strip()}", 120) == [first.strip(), second.strip()]
    code = "```python\n" + "\n".join(f"print({number})" for number in range(30)) + "\n```"
    pieces = split_markdown(code, 120)
    assert all(piece.startswith("```python\n") and piece.endswith("\n```") for piece in pieces)
