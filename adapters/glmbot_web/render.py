"""The model's Markdown as HTML that is safe to put into a page: no raw HTML, no script links, no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from latex2mathml.converter import convert
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from glmbot.delivery.markdown import make_parser, with_dollars

__all__ = ["to_html"]

_LONGEST_LANGUAGE = 20

# markdown-it escapes raw HTML with html=False and refuses javascript:, vbscript:, file: and data: links.
_PARSER = make_parser()
_PARSER.options["breaks"] = True
# A picture would tell a foreign server that this answer was read.
_PARSER.disable("image")


def to_html(markdown: str) -> str:
    """Mathematics becomes MathML, which browsers draw by themselves."""
    return _PARSER.render(with_dollars(markdown))


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


def _math_inline(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return _mathml(tokens[index], "inline")


def _math_block(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f'<div class="math">{_mathml(tokens[index], "block")}</div>\n'


def _mathml(token: Token, display: str) -> str:
    """What is no LaTeX that the converter knows stays as it was written."""
    try:
        return convert(token.content.strip(), display=display)
    except Exception:  # the converter raises whatever it stumbles over
        return f"<code>{escape(token.markup + token.content + token.markup)}</code>"


for _name, _rule in (
    ("fence", _fence),
    ("table_open", _table_open),
    ("table_close", _table_close),
    ("link_open", _link_open),
    ("math_inline", _math_inline),
    ("math_inline_double", _math_block),
    ("math_block", _math_block),
    ("math_block_label", _math_block),
):
    _PARSER.add_render_rule(_name, _rule)
