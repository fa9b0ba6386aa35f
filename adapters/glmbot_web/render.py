"""The model's Markdown as HTML that is safe to put into a page: no raw HTML, no script links, no pictures.

Whatever the converters return passes one list of elements and attributes: theirs is not the last word.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html import escape
from typing import Any
from xml.etree import ElementTree

import nh3
from latex2mathml.converter import convert_to_element
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from glmbot.delivery.markdown import make_parser, may_link, with_dollars

__all__ = ["to_html"]

_LONGEST_LANGUAGE = 20
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
    "span": {"language"},
    "td": {"center", "right"},
    "th": {"center", "right"},
}
_MATH_VALUE = re.compile(r"[A-Za-z0-9#.%+ :/-]{0,64}")


def _kept(element: str, name: str, value: str) -> str | None:
    """The attribute's value, or None for an attribute that goes."""
    if name == "href":
        return value if may_link(value) else None
    if element in _MATH:
        return value if _MATH_VALUE.fullmatch(value) else None
    return value


_CLEANER = nh3.Cleaner(
    tags=set(_TEXT | _MATH),
    attributes={
        "a": {"href", "target", "rel", "title"},
        "ol": {"start"},
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
    if len(markdown) > _LONGEST_RENDERED:
        return f"<pre>{escape(markdown)}</pre>"
    return _CLEANER.clean(_PARSER.render(with_dollars(markdown)))


def _fence(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """Code with its language in front, for the page to put a button beside."""
    token = tokens[index]
    language = token.info.strip().split(" ")[0][:_LONGEST_LANGUAGE]
    label = f'<span class="language">{escape(language)}</span>' if language else ""
    code = f"<pre><code>{escape(token.content)}</code></pre>"
    return f'<div class="code"><div class="bar">{label}</div>{code}</div>\n'


def _table_open(_: RendererHTML, __: Sequence[Token], ___: int, *____: Any) -> str:
    return '<div class="table"><table>\n'


def _table_close(_: RendererHTML, __: Sequence[Token], ___: int, *____: Any) -> str:
    return "</table></div>\n"


def _link_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


def _cell_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Alignment as a class: the page allows no styles of an answer's."""
    style = str(tokens[index].attrs.pop("style", ""))
    for side in ("center", "right"):
        if style.endswith(side):
            tokens[index].attrSet("class", side)
    return renderer.renderToken(tokens, index, options, env)


def _math_inline(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return _mathml(tokens[index], "inline")


def _math_block(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f'<div class="math">{_mathml(tokens[index], "block")}</div>\n'


def _mathml(token: Token, display: str) -> str:
    """What is no LaTeX that the converter knows stays as it was written."""
    formula = token.content.strip()
    try:
        if len(formula) > _LONGEST_FORMULA:
            raise ValueError("too long")
        element = convert_to_element(formula, display=display)
        for each in element.iter():
            # The converter writes signs as "&#x0003D;" and undoes all escapes in the end, \text{<form>} included.
            each.text = html.unescape(each.text) if each.text else each.text
        return ElementTree.tostring(element, encoding="unicode")
    except Exception:  # the converter raises whatever it stumbles over
        return f"<code>{escape(token.markup + token.content + token.markup)}</code>"


for _name, _rule in (
    ("fence", _fence),
    ("table_open", _table_open),
    ("table_close", _table_close),
    ("link_open", _link_open),
    ("th_open", _cell_open),
    ("td_open", _cell_open),
    ("math_inline", _math_inline),
    ("math_inline_double", _math_block),
    ("math_block", _math_block),
    ("math_block_label", _math_block),
):
    _PARSER.add_render_rule(_name, _rule)
