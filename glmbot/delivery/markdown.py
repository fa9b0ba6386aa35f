"""The model's Markdown as every platform reads it: CommonMark with tables, strikethrough and mathematics.

One parser for all, so that an answer means the same everywhere. Raw HTML is text. Mathematics is kept as the LaTeX
that the model wrote: emphasis and escapes inside it are not Markdown's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_BRACKETS = re.compile(
    r"(?P<code>(?:^|(?<=\n)) {0,3}(?P<fence>`{3,}|~{3,})[^\n]*(?:\n.*?)??"
    r"(?:\n {0,3}(?P=fence)[`~]*[ \t]*(?=\n|$)|$)"
    r"|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
    r"|\\\[(?P<block>.+?)\\\]|\\\((?P<inline>[^\n]+?)\\\)",
    re.DOTALL,
)


def make_parser() -> MarkdownIt:
    """A parser of `with_dollars(markdown)`. math_inline, math_inline_double and math_block tokens hold LaTeX."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    # Without spaces and digits at its borders, "$5 and $10" is money.
    return parser.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)


def with_dollars(markdown: str) -> str:
    r"""Mathematics between \( and \) or \[ and \] between dollars instead, but not in code.

    Lines stay lines, and end in \n alone, as the parser's own do.
    """

    def rewrite(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        if match["block"] is not None:
            return f"$${match['block'] if chr(10) in match['block'] else match['block'].strip()}$$"
        return f"${match['inline'].strip()}$" if match["inline"].strip() else match[0]

    markdown = markdown.replace("\r\n", "\n").replace("\r", "\n")
    return _BRACKETS.sub(rewrite, markdown) if "\\" in markdown else markdown


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
