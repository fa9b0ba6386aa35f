"""The model's Markdown as the HTML that Matrix' clients show: the elements and attributes that the spec lists.

https://spec.matrix.org/v1.15/client-server-api/#mroommessage-msgtypes: "clients SHOULD limit the HTML they
render", to those that it lists, nested at most 100 deep (`glmbot.delivery.markdown` stops at 40 blocks). Pictures
only by mxc://, so there are none. Whatever the converter returns passes that list: it is not the last word. Beside
it stands the Markdown itself as `body`, for clients without HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import nh3
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from glmbot.delivery.markdown import fence_heading, html_after_link, make_parser, may_link
from glmbot.delivery.pieces import beginning_of

__all__ = ["NOTICE_ROOM", "SPLIT_AT", "alone", "body_of", "fits", "render"]

SPLIT_AT = 8000
"""Characters: a message of more is tiresome to read."""
NOTICE_ROOM = 400
"""Characters kept free under an answer for the bot's own line."""

# "The complete event MUST NOT be larger than 65536 bytes": https://spec.matrix.org/v1.15/client-server-api/#size-limits.
# In an encrypted room it is JSON of the library's, which writes other letters than ASCII as six, in base64, which
# makes four of three; and what is around the words takes a few thousand.
_LARGEST = 36_000
_LANGUAGE = re.compile(r"language-[\w+#.-]{1,20}")
_START = re.compile(r"[0-9]{1,9}")
_LONGEST_FORMULA = 4000


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Of what the spec lists, what answers have.
_ELEMENTS = _names(
    "a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul"
)


def _kept(element: str, name: str, value: str) -> str | None:
    """The attribute's value, or None for an attribute that goes."""
    match element, name:
        case "a", "href":
            return value if may_link(value) else None
        case "code", "class":
            return value if _LANGUAGE.fullmatch(value) else None
        case "ol", "start":
            return value if _START.fullmatch(value) else None
        case _:
            return value


_CLEANER = nh3.Cleaner(
    tags=set(_ELEMENTS),
    attributes={
        "a": {"href"},
        "ol": {"start"},
        "code": {"class"},
        "span": {"data-mx-maths"},
        "div": {"data-mx-maths"},
    },
    attribute_filter=_kept,
    link_rel=None,
    url_schemes={"http", "https", "mailto"},
)
_PARSER = make_parser()
_PARSER.options["breaks"] = True


def render(markdown: str, notice: str = "") -> str:
    """The HTML of one message; `notice` stands under the answer in italics."""
    html = _CLEANER.clean(_PARSER.render(markdown)).strip()
    if notice:
        html += f"<p><em>{'<br>'.join(map(escape, notice.splitlines()))}</em></p>"
    return html or "<p>…</p>"


def body_of(markdown: str, notice: str = "") -> str:
    """The same for clients without HTML."""
    return "\n\n".join(filter(None, (markdown, notice))) or "…"


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether this piece is one event with a notice under it, encrypted too."""
    # A notice may be all Chinese, and stands in both.
    room = 2 * 6 * NOTICE_ROOM
    return len(json.dumps(markdown)) + len(json.dumps(render(markdown))) <= _LARGEST - room


def alone(notice: str) -> str:
    """As much of the bot's own line as is one event, encrypted too, where nothing stands above it."""
    return beginning_of(
        notice, _LARGEST, lambda text: len(json.dumps(text)) + len(json.dumps(render("", text)))
    )


def _fence(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    language, beside = fence_heading(token.info)
    heading = f"<p>{escape(beside)}</p>\n" if beside else ""
    mark = f' class="language-{escape(language)}"' if language else ""
    return f"{heading}<pre><code{mark}>{escape(token.content)}</code></pre>\n"


def _math(element: str, token: Token) -> str:
    """https://spec.matrix.org/v1.15/client-server-api/#mathematical-messages, with what was written inside for
    clients that draw none."""
    formula = token.content.strip()
    shown = f"<code>{escape(token.markup + formula + token.markup)}</code>"
    if len(formula) > _LONGEST_FORMULA:
        return shown
    return f'<{element} data-mx-maths="{escape(formula)}">{shown}</{element}>'


def _math_inline(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return _math("span", tokens[index])


def _math_block(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return _math("div", tokens[index]) + "\n"


def _image(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """A link: a picture would tell a foreign server that this answer was read."""
    href, words = str(tokens[index].attrGet("src") or ""), tokens[index].content
    if may_link(href):
        return f'<a href="{escape(href)}">{escape(words or href)}</a>'
    return escape(words) + (f" (<code>{escape(href)}</code>)" if href not in ("", words) else "")


def _link_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    href = str(tokens[index].attrGet("href") or "")
    return f'<a href="{escape(href)}">' if may_link(href) else ""


def _link_close(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return html_after_link(tokens, index)


for _name, _rule in (
    ("fence", _fence),
    ("image", _image),
    ("link_open", _link_open),
    ("link_close", _link_close),
    ("math_inline", _math_inline),
    ("math_inline_double", _math_inline),
    ("math_block", _math_block),
    ("math_block_label", _math_block),
):
    _PARSER.add_render_rule(_name, _rule)
