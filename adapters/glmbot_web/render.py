"""The model's Markdown as HTML that is safe to put into a page: no raw HTML, no script links, no pictures.

Whatever the converters return passes one list of elements and attributes: theirs is not the last word.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any
from xml.etree import ElementTree

import nh3
from latex2mathml.converter import convert_to_element
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from glmbot.delivery.markdown import (
    ItemNumbers,
    closing,
    fence_heading,
    html_after_link,
    make_parser,
    may_link,
)
from glmbot.delivery.tables import columns

__all__ = ["Growing", "to_blocks", "to_html"]

_LONGEST_HEADING = 200
# Columns of a terminal: a shorter cell is not broken into lines, as numbers and names must not be.
_SHORT_CELL = 16
# Longer texts are shown as they were written.
_LONGEST_RENDERED = 200_000
# Longer formulas are; the converter copies its input for each of its tokens.
_LONGEST_FORMULA = 4000


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TEXT = _names(
    "a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th "
    "thead tr ul"
)
# What latex2mathml makes. No maction, no semantics, no annotation-xml: they hold and do more than mathematics.
_MATH = _names(
    "math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup "
    "mtable mtd mtext mtr munder munderover"
)
_MATH_ATTRIBUTES = _names(
    "accent accentunder columnalign columnlines columnspacing depth display displaystyle fence form "
    "height largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize "
    "movablelimits notation rowlines rowspacing rspace scriptlevel separator stretchy symmetric voffset "
    "width xmlns"
)
_CLASSES = {
    "div": {"bar", "code", "math", "table"},
    "span": {"language", "math"},
    "td": {"center", "left", "right", "short"},
    "th": {"center", "left", "right", "short"},
}
# Of a text in Arabic or Hebrew the first letter says so.
_DIRECTED = _names("blockquote h1 h2 h3 h4 h5 h6 ol p table ul")
# `\\[2pt]`: the converter takes the space between two rows for words.
_ROW_SPACE = re.compile(r"\\\\\s{0,3}\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|in|mu|px|bp|pc)\s*\]")
# What a formula says by its looks: commands, environments, lengths, colours.
_UNDRAWN = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}(?:\s*\{[lcr|\s]*\})?"
    r"|\\(?:color|textcolor|colorbox|hspace|vspace|label|href|class|style|kern|hskip|mskip|mkern|phantom|hphantom"
    r"|vphantom)\*?\s*(?:\{[^{}]*\}|-?[\d.]+\s*[a-z]{2})?"
    r"|\\[A-Za-z]+|&[#\w]+;"
)
_MATH_VALUE = re.compile(r"[A-Za-z0-9#.%+ :/-]{0,64}")


def _kept(element: str, name: str, value: str) -> str | None:
    """The attribute's value, or None for an attribute that goes."""
    if name == "href":
        return value if may_link(value) else None
    if name == "dir":
        return value if value == "auto" else None
    if element in _MATH:
        return value if _MATH_VALUE.fullmatch(value) else None
    return value


_CLEANER = nh3.Cleaner(
    tags=set(_TEXT | _MATH),
    attributes={
        **{name: {"dir"} for name in _DIRECTED},
        "a": {"href", "target", "rel", "title"},
        "ol": {"start", "dir"},
        "li": {"value"},
        **{name: set(_MATH_ATTRIBUTES) for name in _MATH},
    },
    allowed_classes=_CLASSES,
    attribute_filter=_kept,
    link_rel=None,
    url_schemes={"http", "https", "mailto"},
)

# markdown-it escapes raw HTML with html=False.
_PARSER = make_parser()
_PARSER.options["breaks"] = True
# A picture would tell a foreign server that this answer was read.
_PARSER.disable("image")


def to_html(markdown: str) -> str:
    """Mathematics becomes MathML, which browsers draw by themselves."""
    return "".join(to_blocks(markdown))


def to_blocks(markdown: str) -> list[str]:
    """The HTML of each block of a text, one element each."""
    return [html for _, html in _read(markdown)]


class Growing:
    """The blocks of a text that grows: those that can't change any more are read once."""

    def __init__(self) -> None:
        self._text = ""
        self._blocks: list[str] = []

    def blocks(self, markdown: str) -> list[str]:
        """As `to_blocks`. What is no continuation of the text before begins anew."""
        if "\r" in markdown or len(markdown) > _LONGEST_RENDERED:
            return to_blocks(markdown)
        if not markdown.startswith(self._text):
            self._text, self._blocks = "", []
        rest = markdown[len(self._text) :]
        *ended, (line, last) = _read(rest) or [(0, "")]
        if ended:
            # A block has ended where another one begins.
            self._text += "".join(f"{each}\n" for each in rest.split("\n", line)[:line])
            self._blocks += [html for _, html in ended]
        return [*self._blocks, last] if last else list(self._blocks)


def _read(markdown: str) -> list[tuple[int, str]]:
    """The line where each block begins, and its HTML."""
    if len(markdown) > _LONGEST_RENDERED:
        return [(0, f"<pre>{escape(markdown)}</pre>")]
    tokens = _PARSER.parse(markdown)
    read: list[tuple[int, str]] = []
    index = 0
    while index < len(tokens):
        end = closing(tokens, index) if tokens[index].nesting == 1 else index
        html = _PARSER.renderer.render(tokens[index : end + 1], _PARSER.options, {})
        read.append(((tokens[index].map or [0])[0], _CLEANER.clean(html)))
        index = end + 1
    return read


def _directed(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """The outermost alone: of what has its own direction, the elements around it would not take theirs."""
    if tokens[index].level == 0:
        tokens[index].attrSet("dir", "auto")
    return renderer.renderToken(tokens, index, options, env)


def _paragraph_open(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    return "" if tokens[index].hidden else _directed(renderer, tokens, index, options, env)


def _ordered_list(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """With the numbers that its items were given."""
    numbers = ItemNumbers()
    counted: int | None = None
    level = tokens[index].level
    for token in tokens[index + 1 : closing(tokens, index)]:
        if token.type == "list_item_open" and token.level == level + 1:
            number = numbers.next(token)
            if counted is not None and number != counted + 1:
                token.attrSet("value", str(number))
            counted = number
    return _directed(renderer, tokens, index, options, env)


def _fence(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """Code with its language in front, and what else stands there, for the page to put a button beside."""
    token = tokens[index]
    heading = " ".join(filter(None, fence_heading(token.info)))[:_LONGEST_HEADING]
    label = f'<span class="language">{escape(heading)}</span>' if heading else ""
    code = f"<pre><code>{escape(token.content)}</code></pre>"
    return f'<div class="code"><div class="bar">{label}</div>{code}</div>\n'


def _table_open(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    direction = "" if tokens[index].level else ' dir="auto"'
    return f'<div class="table"><table{direction}>\n'


def _table_close(_: RendererHTML, __: Sequence[Token], ___: int, *____: Any) -> str:
    return "</table></div>\n"


def _link_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    if not may_link(str(tokens[index].attrGet("href") or "")):
        return ""
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


def _link_close(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return html_after_link(tokens, index)


def _cell_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Alignment as a class: the page allows no styles of an answer's."""
    style = str(tokens[index].attrs.pop("style", ""))
    classes = [side for side in ("center", "left", "right") if style.endswith(side)]
    if columns(tokens[index + 1].content) <= _SHORT_CELL:
        classes.append("short")
    if classes:
        tokens[index].attrSet("class", " ".join(classes))
    return renderer.renderToken(tokens, index, options, env)


def _math_inline(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return _mathml(tokens[index], "inline")


def _math_within(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f'<span class="math">{_mathml(tokens[index], "block")}</span>'


def _math_block(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f'<div class="math">{_mathml(tokens[index], "block")}</div>\n'


def _says_all(formula: str, shown: str) -> bool:
    """Whether each letter and digit of a formula is drawn: the converter passes over what it does not know."""
    return _signs(_UNDRAWN.sub(" ", formula)) <= _signs(shown)


def _signs(text: str) -> Counter[str]:
    return Counter(char for char in unicodedata.normalize("NFKC", text) if char.isalnum())


def _mathml(token: Token, display: str) -> str:
    """What is no LaTeX that the converter knows stays as it was written."""
    formula = _ROW_SPACE.sub(r"\\\\", token.content.strip())
    try:
        if len(formula) > _LONGEST_FORMULA:
            raise ValueError("too long")
        element = convert_to_element(formula, display=display)
        for each in element.iter():
            # The converter writes signs as "&#x0003D;" and undoes all escapes in the end, \text{<form>} included.
            each.text = html.unescape(each.text) if each.text else each.text
        if not _says_all(formula, "".join(element.itertext())):
            raise ValueError("something was left out")
        return ElementTree.tostring(element, encoding="unicode")
    except Exception:  # the converter raises whatever it stumbles over
        return f"<code>{escape(token.markup + token.content + token.markup)}</code>"


for _name, _rule in (
    ("fence", _fence),
    ("table_open", _table_open),
    ("table_close", _table_close),
    ("link_open", _link_open),
    ("link_close", _link_close),
    ("paragraph_open", _paragraph_open),
    ("heading_open", _directed),
    ("blockquote_open", _directed),
    ("bullet_list_open", _directed),
    ("ordered_list_open", _ordered_list),
    ("th_open", _cell_open),
    ("td_open", _cell_open),
    ("math_inline", _math_inline),
    ("math_inline_double", _math_within),
    ("math_block", _math_block),
    ("math_block_label", _math_block),
):
    _PARSER.add_render_rule(_name, _rule)
