"""The model's Markdown as every platform reads it: CommonMark with tables, strikethrough and mathematics.

One parser for all, so that an answer means the same everywhere. Raw HTML is text, save a line break. Mathematics
is kept as the LaTeX that the model wrote. No word is lost: links to be looked up elsewhere ("[1]: https://…") stay
lines, so that each block also means the same by itself, and a row has all of its cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, list_block
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from glmbot.delivery.emphasis import InlineParser
from glmbot.delivery.mathematics import read_mathematics
from glmbot.delivery.tables import keep_all_cells

__all__ = ["ItemNumbers", "closing", "fence_heading", "html_after_link", "make_parser", "may_link"]

_BlockRule = Callable[[StateBlock, int, int, bool], bool]
# Browsers and platforms cut or refuse longer ones.
_LONGEST_ADDRESS = 2048
# What parsers read differently: "\\" is "/" to browsers, others are skipped, or turn the order of what is read.
_NOT_IN_ADDRESSES = re.compile(
    r"[\s\\<>\"`\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_HOST = re.compile(r"(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_MAIL = re.compile(r"mailto:[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*", re.IGNORECASE)
_BREAK = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
_NO_ADDRESS = re.compile(r"<(?!mailto:)[A-Za-z][A-Za-z0-9+.-]{1,31}:(?!//)[^<>\s]{0,200}>", re.IGNORECASE)
# Deeper quotes and lists are words of the innermost one: markdown-it leaves out what is deeper than its own limit.
_DEEPEST = 40
_LANGUAGE = re.compile(r"[\w+#.-]{1,20}")


def make_parser() -> MarkdownIt:
    """A parser whose math_inline, math_inline_double and math_block tokens hold LaTeX."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    inline = InlineParser()
    inline.ruler, inline.ruler2 = parser.inline.ruler, parser.inline.ruler2
    parser.inline = inline
    # What is defined elsewhere would change blocks that were shown, and what nobody uses would vanish.
    parser.block.ruler.disable("reference")
    parser.inline.ruler.before("autolink", "angle_brackets", _angle_brackets)
    parser.options["maxNesting"] = 2 * _DEEPEST
    for name, rule, alternatives in (
        ("blockquote", blockquote, ["paragraph", "reference", "blockquote", "list"]),
        ("list", list_block, ["paragraph", "reference", "blockquote"]),
    ):
        parser.block.ruler.at(name, _unless_deep(rule), {"alt": alternatives})
    keep_all_cells(parser)
    read_mathematics(parser)
    return parser


def _unless_deep(rule: _BlockRule) -> _BlockRule:
    return lambda state, start, end, silent: state.level < _DEEPEST and rule(state, start, end, silent)


def _angle_brackets(state: StateInline, silent: bool) -> bool:
    """The one element of HTML that models write into tables, and what is no address: `<std::string>`."""
    if state.src[state.pos] != "<":
        return False
    match = _BREAK.match(state.src, state.pos) or _NO_ADDRESS.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        if match.re is _BREAK:
            state.push("hardbreak", "br", 0)
        else:
            state.append_pending(match[0])
    state.pos = match.end()
    return True


class ItemNumbers:
    """The numbers of one ordered list's items as they were written, or counted where they repeat themselves."""

    def __init__(self) -> None:
        self._written = self._shown = -1

    def next(self, item: Token) -> int:
        written = int(item.info or 1)
        self._shown = self._shown + 1 if written == self._written else written
        self._written = written
        return self._shown


def fence_heading(info: str) -> tuple[str, str]:
    """The language that a fence names, and what else stands beside it: a file's name, say."""
    first, _, rest = info.strip().partition(" ")
    return (first, rest.strip()) if _LANGUAGE.fullmatch(first) else ("", info.strip())


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
        known_port = parts.port != 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and known_port and _HOST.fullmatch(parts.netloc) is not None


def html_after_link(tokens: Sequence[Token], index: int) -> str:
    """In HTML what closes the link whose link_close stands at `index`; where a link may not lead is said."""
    opened = next(at for at in range(index, -1, -1) if tokens[at].type == "link_open")
    href = str(tokens[opened].attrGet("href") or "")
    words = "".join(token.content for token in tokens[opened + 1 : index])
    if may_link(href):
        return "</a>"
    return f" (<code>{escape(href)}</code>)" if href not in ("", words) else ""


def closing(tokens: Sequence[Token], start: int) -> int:
    """The index of the token that closes the one at `start`."""
    level = tokens[start].level
    return next(
        index
        for index in range(start + 1, len(tokens))
        if tokens[index].level == level and tokens[index].nesting < 0
    )
