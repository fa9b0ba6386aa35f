"""The model's Markdown as Slack's rich text, which unlike its mrkdwn can neither be malformed nor call anybody.

https://docs.slack.dev/reference/block-kit/blocks/rich-text-block: a mention is an element of its own, and none is
made here; emphasis needs no spaces around it, of which Chinese has none. What stands beside the blocks for
notifications is mrkdwn, so there &, < and > are escaped:
https://docs.slack.dev/messaging/formatting-message-text#escaping
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from markdown_it.token import Token

from glmbot.delivery.block_writer import BlockWriter
from glmbot.delivery.emphasis import ADDRESS, address_end
from glmbot.delivery.markdown import make_parser, may_link

__all__ = ["LONGEST_TEXT", "NOTICE_ROOM", "escaped", "fits", "measure", "render"]

# What Slack advises for `text`, and more than which chat.update refuses (msg_too_long):
# https://docs.slack.dev/reference/methods/chat.postMessage#truncating
LONGEST_TEXT = 4000
NOTICE_ROOM = 400
"""Characters kept free under an answer for the bot's own line."""
_PARSER = make_parser()
_STYLES = {"strong": "bold", "em": "italic", "s": "strike"}

Element = dict[str, Any]


def render(markdown: str) -> tuple[Sequence[Element], str]:
    """The elements of a rich_text block, and the same as plain words; none where Markdown shows nothing."""
    canvas = _Canvas()
    _Blocks(canvas).write(_PARSER.parse(markdown))
    canvas.flush()
    return canvas.elements, "\n".join(canvas.plain).strip("\n")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def measure(text: str) -> int:
    """The length of the words as `text` has them."""
    return len(text) + 4 * text.count("&") + 3 * (text.count("<") + text.count(">"))


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Slack takes this piece as one message with a notice under it."""
    return measure(render(markdown)[1]) <= LONGEST_TEXT - NOTICE_ROOM - 2


@dataclass(slots=True)
class _Canvas:
    """Elements one under another; `runs` are those of the section that is being written."""

    elements: list[Element] = field(default_factory=list[Element])
    plain: list[str] = field(default_factory=list[str])
    runs: list[Element] = field(default_factory=list[Element])
    quoted: bool = False

    def write(self, text: str, style: Sequence[str] = (), url: str = "") -> None:
        if not text:
            return
        run: Element = {"type": "link", "url": url, "text": text} if url else {"type": "text", "text": text}
        if style:
            run["style"] = dict.fromkeys(style, True)
        last = self.runs[-1] if self.runs else {}
        if not url and last.get("type") == "text" and last.get("style") == run.get("style"):
            last["text"] += text
        else:
            self.runs.append(run)

    def gap(self, lines: int) -> None:
        """End the current line and leave `lines` - 1 empty ones; nothing at the very beginning."""
        written = self._written()
        if written:
            have = len(written) - len(written.rstrip("\n"))
            self.write("\n" * max(0, lines - have))

    def flush(self) -> None:
        """The section ends: what follows stands below it."""
        runs, self.runs = self.runs, []
        while runs and runs[-1]["type"] == "text" and not runs[-1]["text"].rstrip("\n"):
            runs.pop()
        if not runs:
            return
        if runs[-1]["type"] == "text":
            runs[-1]["text"] = runs[-1]["text"].rstrip("\n")
        self._add("rich_text_quote" if self.quoted else "rich_text_section", runs)

    def code(self, content: str) -> None:
        self.flush()
        if content.strip():
            self._add("rich_text_preformatted", [{"type": "text", "text": content}])

    def _add(self, kind: str, runs: list[Element]) -> None:
        self.elements.append({"type": kind, "elements": runs})
        self.plain.append("".join(run["text"] for run in runs))

    def _written(self) -> str:
        return "".join(run["text"] for run in self.runs)


class _Blocks(BlockWriter):
    indent = "    "

    def __init__(self, canvas: _Canvas) -> None:
        super().__init__()
        self._canvas = canvas
        self._quotes = 0

    def gap(self, lines: int) -> None:
        self._canvas.gap(lines)

    def text(self, words: str) -> None:
        self._canvas.write(words)

    def inline(self, tokens: Sequence[Token], *, heading: bool = False) -> None:
        _inline(tokens, self._canvas, ("bold",) if heading else ())

    def code(self, content: str, language: str = "", heading: str = "") -> None:
        if heading:
            if not self.fresh_item:
                self.gap(1)
            self.text(heading)
        self._canvas.code(content)

    def quote(self, *, opens: bool) -> None:
        self._canvas.flush()
        self._quotes += 1 if opens else -1
        self._canvas.quoted = self._quotes > 0


def _inline(tokens: Sequence[Token], canvas: _Canvas, around: Sequence[str] = ()) -> None:
    styles = list(around)
    links: list[str] = []
    for token in tokens:
        name = token.type.removesuffix("_open").removesuffix("_close")
        match token.type:
            case "text":
                _words(token.content, canvas, styles, links[-1] if links and may_link(links[-1]) else "")
            case "softbreak" | "hardbreak":
                canvas.write("\n")
            case "code_inline":
                canvas.write(token.content, [*styles, "code"])
            case "math_inline" | "math_inline_double":
                canvas.write(f"{token.markup}{token.content.strip()}{token.markup}", [*styles, "code"])
            case "image":
                href = str(token.attrGet("src") or "")
                _words(token.content or href, canvas, styles, href if may_link(href) else "")
                _where_it_leads(href, canvas)
            case "link_open":
                links.append(str(token.attrGet("href") or ""))
            case "link_close":
                _where_it_leads(links.pop(), canvas)
            case kind if name in _STYLES and kind.endswith("_open"):
                styles.append(_STYLES[name])
            case kind if name in _STYLES and kind.endswith("_close"):
                styles.reverse()
                styles.remove(_STYLES[name])
                styles.reverse()
            case _:
                canvas.write(token.content, styles)


def _where_it_leads(href: str, canvas: _Canvas) -> None:
    """An address that may be no link, as code beside its words."""
    if href and not may_link(href):
        canvas.write(" (")
        canvas.write(href, ["code"])
        canvas.write(")")


def _words(text: str, canvas: _Canvas, styles: Sequence[str], url: str) -> None:
    """Words; addresses among them are links, as everywhere."""
    if url:
        canvas.write(text, styles, url)
        return
    end = 0
    for match in ADDRESS.finditer(text):
        start, stop = match.start(), address_end(text, match.start(), match.end())
        address = text[start:stop]
        if not may_link(address):
            continue
        canvas.write(text[end:start], styles)
        canvas.write(address, styles, address)
        end = stop
    canvas.write(text[end:], styles)
