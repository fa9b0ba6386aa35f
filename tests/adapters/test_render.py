"""Markdown to Telegram entities and to Discord, for any Markdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.delivery.split import split_markdown, utf16_length
from glmbot_console.render import growth, printable
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.render import render as to_discord
from glmbot_telegram.render import render as to_telegram

fragments = st.lists(
    st.text(max_size=15)
    | st.sampled_from(
        ["**bold** ", "*it* ", "`code`", "```python\nprint(1)\n```\n", "\n\n", "\n", "# Title\n", "- one\n- two\n",
         "1. a\n2. b\n", "> quote\n", "| a | b |\n|---|---|\n| 1 | 2 |\n", "[x](https://a.b/c)", "[x](javascript:1)",
         "🙂", "你好，", "~~gone~~", "---\n", "<b>html</b>", "$E = mc^2$", "![p](http://a/b)", "***", "`", "```"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(fragments, st.sampled_from(["", "a notice"]))
def test_telegram_takes_every_rendering(markdown: str, notice: str) -> None:
    text, entities = to_telegram(markdown, notice)
    length = utf16_length(text)
    assert len(entities) <= 100
    spans = [(entity.offset, entity.offset + entity.length, entity.type) for entity in entities]
    for start, end, _ in spans:
        assert 0 <= start < end <= length
    for index, (start, end, _) in enumerate(spans):
        for other_start, other_end, _ in spans[index + 1 :]:
            apart = other_start >= end or other_end <= start
            nested = (start <= other_start and other_end <= end) or (
                other_start <= start and end <= other_end
            )
            assert apart or nested
    assert notice in text


@given(fragments)
def test_letters_of_the_source_are_in_the_telegram_text(markdown: str) -> None:
    text, _ = to_telegram(markdown)
    # What Markdown itself swallows (link targets, languages, list numbers) is left out on both sides.
    plain = [
        word for word in ("bold", "Title", "quote", "one", "two", "html", "E = mc^2") if word in markdown
    ]
    assert all(word in text for word in plain if "](" not in markdown and "```" not in markdown)


@pytest.mark.parametrize(
    ("markdown", "text", "kinds"),
    [
        ("**a** and *b*", "a and b", ["bold", "italic"]),
        ("```python\nx = 1\n```", "x = 1", ["pre"]),
        ("- one\n- two\n  - deep", "• one\n• two\n  • deep", []),
        ("3. c\n4. d", "3. c\n4. d", []),
        ("# Head\n\ntext", "Head\n\ntext", ["bold"]),
        ("[a](https://b.c) [d](javascript:e)", "a [d](javascript:e)", ["text_link"]),
        ("> wise", "wise", ["blockquote"]),
        ("| a | bb |\n|--|--|\n| 1 | 2 |", "a | bb\n--+---\n1 | 2", ["pre"]),
        ("🙂 **b**", "🙂 b", ["bold"]),
        ("<b>raw</b>", "<b>raw</b>", []),
    ],
)
def test_markdown_becomes_telegram_entities(markdown: str, text: str, kinds: list[str]) -> None:
    rendered, entities = to_telegram(markdown)
    assert rendered == text
    assert [str(entity.type) for entity in entities] == kinds
    for entity in entities:
        if markdown.startswith("🙂"):
            assert (entity.offset, entity.length) == (3, 1)


@given(fragments.map(lambda text: text * 8))
def test_split_and_rendered_pieces_fit_both_platforms(markdown: str) -> None:
    for piece in split_markdown(markdown, 3600, utf16_length):
        assert utf16_length(to_telegram(piece, "n" * 400)[0]) <= 4096
    for piece in split_markdown(markdown, 1700):
        assert len(to_discord(piece, "n" * 250)) <= 2000


def test_discord_gets_tables_as_code_and_notices_as_small_print() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    assert to_discord(f"see\n\n{table}\n\nend") == f"see\n\n```\n{table}\n```\n\nend"
    assert to_discord("text", "one\ntwo") == "text\n-# one\n-# two"
    assert to_discord("", "only this") == "only this"
    fenced = f"```\n{table}\n```"
    assert to_discord(fenced) == fenced


def test_an_answer_without_text_yet_still_shows_something() -> None:
    assert ChannelOutlet.cut(object.__new__(ChannelOutlet), "", "")[0].notice == "…"


@given(st.text())
def test_a_model_sends_no_escape_sequences_to_a_terminal(text: str) -> None:
    shown = printable(text + "\x1b[2J")
    assert not any(ord(char) < 32 and char not in "\n\t" for char in shown)
    assert "\x9b" not in printable("\x9b31m")


@given(st.text(), st.text())
def test_a_terminal_shows_what_grew(shown: str, more: str) -> None:
    assert shown + growth(shown, shown + more) == shown + more
