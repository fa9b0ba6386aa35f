"""The model's Markdown as every platform reads it: CommonMark with tables, strikethrough and mathematics.

One parser for all, so that an answer means the same everywhere. Raw HTML is text. Mathematics is kept as the LaTeX
that the model wrote: emphasis and escapes inside it are not Markdown's business.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from wcwidth import wcswidth

__all__ = ["closing", "layout_table", "make_parser", "may_link", "with_dollars"]

# Wider than this and a phone wraps the lines of a table into nonsense.
_WIDEST_TABLE = 64
# Browsers and platforms cut or refuse longer ones.
_LONGEST_ADDRESS = 2048
# What parsers read differently: "\\" is "/" to browsers, others are skipped, or turn the order of what is read.
_NOT_IN_ADDRESSES = re.compile(
    r"[\s\\<>\"`\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_HOST = re.compile(r"(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_MAIL = re.compile(r"mailto:[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*", re.IGNORECASE)
# Where code or mathematics may begin; a fence's line as a whole.
_OPENING = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*|(?P<ticks>`+)|\\(?P<bracket>[\[(])", re.MULTILINE)
_TICKS = re.compile("`+")


def make_parser() -> MarkdownIt:
    """A parser of `with_dollars(markdown)`. math_inline, math_inline_double and math_block tokens hold LaTeX."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    # Without spaces and digits at its borders, "$5 and $10" is money.
    return parser.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)


def with_dollars(markdown: str) -> str:
    r"""Mathematics between \( and \) or \[ and \] between dollars instead, but not in code.

    Lines stay lines, and end in \n alone, as the parser's own do.
    """

    markdown = markdown.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_rewritten(markdown)) if "\\" in markdown else markdown


def _rewritten(markdown: str) -> Iterator[str]:
    """In one pass: whatever is not closed is looked for once, or 40 kB of brackets would take seconds."""
    runs: defaultdict[int, list[int]] = defaultdict(list)
    for run in _TICKS.finditer(markdown):
        runs[len(run[0])].append(run.start())
    find = _Ahead(markdown)
    done = position = 0
    while match := _OPENING.search(markdown, position):
        start, position = match.span()
        if match["fence"]:
            marker = re.escape(match["fence"])
            end = re.compile(rf"^ {{0,3}}{marker}[`~]*[ \t]*$", re.MULTILINE).search(markdown, position)
            position = len(markdown) if end is None else end.end()
        elif match["ticks"]:
            same = runs[len(match["ticks"])]
            behind = bisect_left(same, position)
            if behind < len(same):
                position = same[behind] + len(match["ticks"])
        else:
            block = match["bracket"] == "["
            end_at = find.ahead("\\]" if block else "\\)", position + 1)
            if end_at < 0 or (not block and 0 <= find.ahead("\n", position) < end_at):
                continue
            inside = markdown[position:end_at]
            position = end_at + 2
            dollars = "$$" if block else "$"
            if block or inside.strip():
                yield markdown[done:start]
                yield f"{dollars}{inside if chr(10) in inside else inside.strip()}{dollars}"
                done = position
    yield markdown[done:]


class _Ahead:
    """The next place of a few texts, each looked for once on the way."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[str, int] = {}

    def ahead(self, wanted: str, start: int) -> int:
        """-1: it comes no more. Call with rising `start`."""
        known = self._known.get(wanted, -2)
        if known == -1 or known >= start:
            return known
        self._known[wanted] = self._text.find(wanted, start)
        return self._known[wanted]


def may_link(address: str) -> bool:
    """Whether an address that a model wrote may become a link: of the web or of mail, and what it looks like.

    No other scheme: `tg://user?id=1` calls a person, `javascript:` runs. No name before the host, which looks like
    a host (`https://bank.com@other.org`). A mail's address carries nothing but the address.
    """
    if len(address) > _LONGEST_ADDRESS or _NOT_IN_ADDRESSES.search(address):
        return False
    if _MAIL.fullmatch(address):
        return True
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc) is not None


def closing(tokens: Sequence[Token], start: int) -> int:
    """The index of the token that closes the one at `start`."""
    kind = tokens[start].type.replace("_open", "_close")
    return next(index for index in range(start, len(tokens)) if tokens[index].type == kind)


def layout_table(tokens: Sequence[Token]) -> str:
    """The tokens of one table as plain text: aligned columns, or where they are too wide a record for each row."""
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append("".join(_plain(child) for child in token.children or []))
    widths = [max(map(_width, column)) for column in zip(*rows, strict=False)]
    if sum(widths) + 3 * (len(widths) - 1) > _WIDEST_TABLE:
        return _records(rows)
    lines = [
        " | ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=False))
        for row in rows
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _records(rows: Sequence[Sequence[str]]) -> str:
    heads = rows[0]
    if len(rows) == 1:
        return "\n".join(heads)
    records = [
        "\n".join(f"{head}: {cell}".strip(": ") for head, cell in zip(heads, row, strict=False) if cell)
        for row in rows[1:]
    ]
    return "\n\n".join(records)


def _width(text: str) -> int:
    """Columns of a terminal; a Chinese character takes two."""
    return max(wcswidth(text), 0) or len(text)


def _plain(token: Token) -> str:
    if token.type.startswith("math_inline"):
        return f"{token.markup}{token.content}{token.markup}"
    return " " if token.type in ("softbreak", "hardbreak") else token.content
