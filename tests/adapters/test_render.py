"""Markdown to Telegram entities and to Discord, for any Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from telegram import MessageEntity

from glmbot.delivery.code_files import code_files
from glmbot.delivery.markdown import make_parser
from glmbot.delivery.split import utf16_length
from glmbot.messages import Action, Reply, ReplyState
from glmbot_console.render import growth, printable
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.render import render as to_discord
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.render import render as to_telegram
from glmbot_web.render import to_html

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
    assert len(entities) <= 100
    check_spans(text, entities)
    assert notice in text


def check_spans(text: str, entities: Sequence[MessageEntity]) -> None:
    """Inside the text, none empty, each two apart or one in the other."""
    length = utf16_length(text)
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
        (
            "[me](tg://user?id=7) <tg://user?id=7>",
            "me (tg://user?id=7) tg://user?id=7 (tg://user?id=7)",
            ["code"] * 3,
        ),
        ("call tg://resolve?domain=x now", "call tg://resolve?domain=x now", ["code"]),
        ("![tg://user?id=7](tg://user?id=7)", "tg://user?id=7", ["code"]),
        ("[mail](mailto:a@b.c)", "mail (a@b.c)", []),
        ("[bank](https://bank.com@b.c)", "bank (https://bank.com@b.c)", ["code"]),
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


# Paragraphs, code, tables and mathematics as models write them, in two languages.
words = st.sampled_from(
    ["hello", "你好", "模型", "a_b", "**strong**", "*leaning*", "`x = y`", "~~gone~~", "[link](https://e.org/a_b)",
     "🙂", "C++", "a || b", "snake_case_name", "$a_1 + b_{2}$", r"\(c^2\)", "<b>", "5 < 6", "为什么？", "它说：“好”。", "$5"]
)  # fmt: skip
sentence = st.lists(words, min_size=1, max_size=25).map(" ".join)
block = st.one_of(
    sentence,
    sentence.map(lambda text: f"## {text}"),
    sentence.map(lambda text: f"#### {text}"),
    st.lists(sentence, min_size=1, max_size=12).map(lambda lines: "\n".join(f"- {line}" for line in lines)),
    st.lists(sentence, min_size=1, max_size=6).map(lambda lines: "\n".join(f"{n}. {x}" for n, x in enumerate(lines, 1))),
    st.lists(sentence, min_size=1, max_size=4).map(lambda lines: "\n".join(f"> {line}" for line in lines)),
    st.tuples(st.sampled_from(["python", "", "c++"]), st.lists(st.text("abcdef (){}=*_`|你", max_size=70), max_size=90)).map(
        lambda code: f"````{code[0]}\n" + "\n".join(line.replace("````", "") for line in code[1]) + "\n````"
    ),
    st.lists(st.tuples(st.sampled_from(["甲", "bb", "c"]), st.sampled_from(["丁", "ee"])), min_size=1, max_size=9).map(
        lambda rows: "\n".join(["| one | two |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])
    ),
    st.just("$$\n\\frac{a}{b} = c_1\n$$"),
    st.just("\\[ E = mc^2 \\]"),
    st.just("---"),
)  # fmt: skip
RETRY = Action("retry", "Retry")
answers = st.lists(block, min_size=1, max_size=30).map("\n\n".join)


def letters_of(markdown: str, *, math: bool = True) -> str:
    """The letters that a reader of this Markdown sees, by the parser alone."""
    parser = make_parser() if math else MarkdownIt("commonmark", {"html": False}).enable("strikethrough")

    def of(tokens: Sequence[Token]) -> Iterator[str]:
        for token in tokens:
            if token.children is not None:
                yield from of(token.children)
            elif token.content:
                yield token.content

    return only_letters("".join(of(parser.parse(markdown))))


def only_letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum() and not char.isdigit())


def reply(text: str) -> Reply:
    return Reply(text, ReplyState.FINAL, "n" * 600, actions=(RETRY,))


@settings(max_examples=150)
@given(answers, st.integers(0, 6000))
def test_every_piece_keeps_telegrams_laws_and_together_they_are_the_text(markdown: str, cut: int) -> None:
    markdown = markdown[:cut]
    pieces = TelegramOutlet.cut(object.__new__(TelegramOutlet), reply(markdown))
    assert [piece.actions for piece in pieces] == [()] * (len(pieces) - 1) + [(RETRY,)]
    joined = ""
    for piece in pieces:
        text, entities = to_telegram(piece.text, piece.notice)
        assert 1 <= utf16_length(text) <= 4096
        assert len(entities) <= 100
        check_spans(text, entities)
        joined += to_telegram(piece.text)[0]
    assert only_letters(joined) == letters_of(markdown)


@settings(max_examples=150)
@given(answers, st.integers(0, 6000))
def test_every_piece_keeps_discords_laws_and_together_they_are_the_text(markdown: str, cut: int) -> None:
    markdown = markdown[:cut]
    pieces = ChannelOutlet.cut(object.__new__(ChannelOutlet), reply(markdown))
    for piece in pieces:
        assert 1 <= len(to_discord(piece.text, piece.notice).strip()) <= 2000
    joined = "".join(letters_of(to_discord(piece.text), math=False) for piece in pieces if piece.text)
    assert joined == letters_of(markdown)


@settings(max_examples=150)
@given(answers, st.integers(0, 6000))
def test_the_page_shows_the_text_and_nothing_that_acts(markdown: str, cut: int) -> None:
    markdown = markdown[:cut]
    html = to_html(markdown)
    page = Page()
    page.feed(html)
    assert page.tags <= ALLOWED_TAGS
    assert page.open == []
    if "$" not in markdown and "\\" not in markdown:
        assert only_letters(page.text) == letters_of(markdown)


ALLOWED_TAGS = {
    "p", "br", "strong", "em", "s", "code", "pre", "div", "span", "a", "ul", "ol", "li", "blockquote", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
    "math", "mrow", "mi", "mo", "mn", "msub", "msup", "msubsup", "mfrac", "mtext", "mspace", "mstyle",
}  # fmt: skip


class Page(HTMLParser):
    """Reads HTML as a browser does, and keeps what is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            assert name not in ("href", "src") or str(value).startswith(
                ("http://", "https://", "mailto:", "#")
            )
        if tag not in ("br", "hr"):
            self.open.append("language" if ("class", "language") in attrs else tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        assert tag == last or (tag, last) == ("span", "language")

    def handle_data(self, data: str) -> None:
        if "language" not in self.open:
            self.text += data


@given(fragments, st.sampled_from(["javascript:alert(1)", "data:text/html,x", "vbscript:x"]))
def test_no_markup_of_the_models_becomes_markup_of_the_page(markdown: str, link: str) -> None:
    attack = f"{markdown}\n\n<img src=x onerror=alert(1)><script>x</script> [c]({link}) $<script>y</script>$ ![p](http://t/b)"
    page = Page()
    page.feed(to_html(attack))
    assert page.tags <= ALLOWED_TAGS


@given(fragments.map(lambda text: text * 8))
def test_split_and_rendered_pieces_fit_both_platforms(markdown: str) -> None:
    for piece in TelegramOutlet.cut(object.__new__(TelegramOutlet), reply(markdown)):
        text, entities = to_telegram(piece.text, piece.notice)
        assert utf16_length(text) <= 4096
        assert len(entities) <= 100
    for piece in ChannelOutlet.cut(object.__new__(ChannelOutlet), reply(markdown)):
        assert len(to_discord(piece.text, piece.notice)) <= 2000


@pytest.mark.parametrize("markdown", ["", "an answer"])
def test_the_bots_own_line_fits_whatever_it_is_made_of(markdown: str) -> None:
    """As /prompt says again what somebody wrote."""
    said = Reply(markdown, ReplyState.FINAL, "🙂" * 4000)
    for piece in TelegramOutlet.cut(object.__new__(TelegramOutlet), said):
        assert 400 <= utf16_length(to_telegram(piece.text, piece.notice)[0]) <= 4096


@pytest.mark.parametrize("markdown", ["[x]: http://a.b", "\n\n", " ", "```\n```", "&nbsp;", "\u200b"])
def test_markdown_that_shows_nothing_is_still_a_message(markdown: str) -> None:
    shown = Reply(markdown, ReplyState.STREAMING)
    (piece,) = TelegramOutlet.cut(object.__new__(TelegramOutlet), shown)
    assert to_telegram(piece.text)[0]
    (piece,) = ChannelOutlet.cut(object.__new__(ChannelOutlet), shown)
    assert to_discord(piece.text)


def test_a_piece_with_a_hundred_entities_is_cut_rather_than_stripped_of_them() -> None:
    markdown = " ".join(f"**b{number}**" for number in range(250))
    pieces = TelegramOutlet.cut(object.__new__(TelegramOutlet), reply(markdown))
    assert sum(len(to_telegram(piece.text)[1]) for piece in pieces) == 250


def test_tables_are_aligned_in_both_languages_and_wide_ones_become_records() -> None:
    table = "| 名字 | n |\n|---|---|\n| 甲 | 1 |\n| long | 22 |"
    assert to_telegram(table)[0] == "名字 | n\n-----+---\n甲   | 1\nlong | 22".replace(
        "-----+---", "-----+---"
    )
    wide = f"| name | text |\n|---|---|\n| a | {'very ' * 20}|\n| b | short |"
    assert to_telegram(wide)[0] == f"name: a\ntext: {('very ' * 20).strip()}\n\nname: b\ntext: short"


def test_mathematics_stays_legible_everywhere() -> None:
    source = r"so \(a_1 + b_1\) and $c_2 * d_2$ cost $5, **$6**"
    assert to_telegram(source)[0] == "so $a_1 + b_1$ and $c_2 * d_2$ cost $5, $6"
    assert to_discord(source) == "so `$a_1 + b_1$` and `$c_2 * d_2$` cost $5, **$6**"
    assert "<msub><mi>a</mi><mn>1</mn></msub>" in to_html(source)
    block = "\\[\n\\frac{a}{b}\n\\]"
    text, (entity,) = to_telegram(block)
    assert (text, entity.type, entity.language) == ("\\frac{a}{b}", "pre", "latex")
    assert to_discord(block) == "```latex\n\\frac{a}{b}\n```"
    assert "<mfrac>" in to_html(block)
    assert to_telegram(r"`\(x\)`")[0] == r"\(x\)"


def test_discord_gets_what_it_lacks_in_another_way() -> None:
    assert to_discord("#### deep") == "**deep**"
    assert to_discord("if a || b and c || d: `x || y`") == r"if a \|\| b and c \|\| d: `x || y`"
    assert to_discord("![cat](http://e.org/c.png)") == "[cat](http://e.org/c.png)"


def test_long_code_comes_as_a_file_too() -> None:
    code = "print('x')\n" * 200
    (file,) = code_files(f"Here:\n\n```python\n{code}```\n\nand `short`\n\n```\nx\n```")
    assert (file.name, file.content.decode()) == ("code-1.py", code)
    assert code_files("```python\nprint(1)\n```") == []


def test_discord_gets_tables_as_code_and_notices_as_small_print() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    laid_out = "a | b\n--+--\n1 | 2"
    assert to_discord(f"see\n\n{table}\n\nend") == f"see\n\n```\n{laid_out}\n```\n\nend"
    assert to_discord("text", "one\ntwo") == "text\n-# one\n-# two"
    assert to_discord("", "only this") == "only this"
    fenced = f"```\n{table}\n```"
    assert to_discord(fenced) == fenced


def test_an_answer_without_text_yet_still_shows_something() -> None:
    empty = Reply("", ReplyState.QUEUED)
    assert ChannelOutlet.cut(object.__new__(ChannelOutlet), empty)[0].notice == "…"


@given(st.text())
def test_a_model_sends_no_escape_sequences_to_a_terminal(text: str) -> None:
    shown = printable(text + "\x1b[2J")
    assert not any(ord(char) < 32 and char not in "\n\t" for char in shown)
    assert "\x9b" not in printable("\x9b31m")


@given(st.text(), st.text())
def test_a_terminal_shows_what_grew(shown: str, more: str) -> None:
    assert shown + growth(shown, shown + more) == shown + more
