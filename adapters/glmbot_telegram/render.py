"""The model's Markdown as Telegram text with entities, which unlike MarkdownV2 can never be malformed.

https://core.telegram.org/bots/api#messageentity: offsets and lengths in UTF-16 code units, at most 100
entities a message; pre and code hold no others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from markdown_it.token import Token
from telegram import MessageEntity

from glmbot.delivery.block_writer import BlockWriter
from glmbot.delivery.markdown import make_parser, may_link
from glmbot.delivery.split import utf16_length

__all__ = ["LONGEST_TEXT", "NOTICE_ROOM", "fits", "fits_folded", "render", "render_thought"]

# https://core.telegram.org/bots/api#sendmessage and https://limits.tginfo.me/en
LONGEST_TEXT = 4096
_MOST_ENTITIES = 100
NOTICE_ROOM = 400
"""UTF-16 units kept free under an answer for the bot's own line."""
_PARSER = make_parser()
_INLINE = {
    "strong": MessageEntity.BOLD,
    "em": MessageEntity.ITALIC,
    "s": MessageEntity.STRIKETHROUGH,
    "link": MessageEntity.TEXT_LINK,
}
# What Telegram makes a link of: a host with a dot, or an IPv6 address. Another's entity is dropped without a word.
_WEB = re.compile(r"https?://(?:[^/?#]*\.[^/?#.]|\[)", re.IGNORECASE)
# Telegram makes one space of a tab.
_TAB = 4
# tdlib's find_tg_urls.
_OWN_SCHEMES = re.compile(r"(?:tg|ton|tonsite)://\S*", re.IGNORECASE)


def render(markdown: str, notice: str = "") -> tuple[str, Sequence[MessageEntity]]:
    """Text and entities of one message; `notice` stands under the answer in italics."""
    canvas = _Canvas()
    _Blocks(canvas).write(_PARSER.parse(markdown))
    canvas.trim()
    if not canvas.text.strip() and not notice:
        # Telegram takes no empty message, and Markdown can show nothing: a link's definition, say.
        canvas.write("…")
    if notice:
        canvas.gap(2 if canvas.text else 0)
        start = canvas.length
        canvas.write(notice)
        canvas.entities.append(_entity(MessageEntity.ITALIC, start, canvas.length - start))
    inside = [entity for entity in canvas.entities if entity.length > 0]
    inside.sort(key=lambda entity: (entity.offset, -entity.length))
    return canvas.text, inside[:_MOST_ENTITIES]


def render_thought(thought: str, label: str) -> tuple[str, Sequence[MessageEntity]]:
    """What a model thought, under its label, as a quotation that is folded until it is touched."""
    text = f"{label}\n{thought}".strip()
    quote = _entity(MessageEntity.EXPANDABLE_BLOCKQUOTE, 0, utf16_length(text))
    return text, [quote, _entity(MessageEntity.BOLD, 0, utf16_length(label))]


@lru_cache(maxsize=256)
def fits_folded(thought: str, label: str) -> bool:
    """Whether Telegram takes this thought as one message."""
    return utf16_length(render_thought(thought, label)[0]) <= LONGEST_TEXT


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Telegram takes this piece as one message with a notice under it."""
    text, entities = render(markdown)
    return utf16_length(text) <= LONGEST_TEXT - NOTICE_ROOM - 2 and len(entities) < _MOST_ENTITIES


@dataclass(slots=True)
class _Canvas:
    text: str = ""
    length: int = 0
    entities: list[MessageEntity] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.text += text
        self.length += utf16_length(text)

    def gap(self, lines: int) -> None:
        """End the current line and leave `lines` - 1 empty ones; nothing at the very beginning."""
        if self.text:
            have = len(self.text) - len(self.text.rstrip("\n"))
            self.write("\n" * max(0, lines - have))

    def trim(self) -> None:
        """Telegram cuts white space at the end, and entities must not reach into it."""
        self.text = self.text.rstrip()
        self.length = utf16_length(self.text)
        self.entities = [
            _entity(each.type, each.offset, min(each.length, self.length - each.offset), each)
            for each in self.entities
            if each.offset < self.length
        ]


def _entity(kind: str, offset: int, length: int, like: MessageEntity | None = None) -> MessageEntity:
    return MessageEntity(
        kind,
        offset,
        length,
        url=like.url if like else None,
        language=like.language if like else None,
    )


class _Blocks(BlockWriter):
    def __init__(self, canvas: _Canvas) -> None:
        super().__init__()
        self._canvas = canvas
        self._quotes: list[int] = []

    def gap(self, lines: int) -> None:
        self._canvas.gap(lines)

    def text(self, words: str) -> None:
        self._canvas.write(words)

    def inline(self, tokens: Sequence[Token], *, heading: bool = False) -> None:
        start = self._canvas.length
        _inline(tokens, self._canvas)
        if heading:
            self._mark(MessageEntity.BOLD, start)

    def code(self, content: str, language: str = "", heading: str = "") -> None:
        self.gap(1 if self.fresh_item or self.lists else 2)
        if heading:
            _text(heading, self._canvas)
            self.gap(1)
        _code(content.expandtabs(_TAB), language, self._canvas)

    def quote(self, *, opens: bool) -> None:
        if opens:
            self.gap(2)
            self._quotes.append(self._canvas.length)
            return
        start = self._quotes.pop()
        # Telegram's quotations hold no others.
        if not self._quotes:
            self._mark(MessageEntity.BLOCKQUOTE, start)

    def _mark(self, kind: str, start: int) -> None:
        self._canvas.entities.append(_entity(kind, start, self._canvas.length - start))


def _code(content: str, language: str, canvas: _Canvas) -> None:
    start = canvas.length
    canvas.write(content)
    canvas.entities.append(
        MessageEntity(MessageEntity.PRE, start, canvas.length - start, language=language or None)
    )


def _inline(tokens: Sequence[Token], canvas: _Canvas) -> None:
    opened: list[tuple[str, int, Any]] = []
    for token in tokens:
        match token.type:
            case "text":
                _text(token.content, canvas)
            case "softbreak" | "hardbreak":
                canvas.write("\n")
            case "code_inline":
                _code_inline(token.content, canvas)
            case "math_inline" | "math_inline_double":
                canvas.write(f"{token.markup}{token.content.strip()}{token.markup}")
            case "image":
                _picture(token.content, str(token.attrGet("src") or ""), canvas)
            case kind if kind.endswith("_open"):
                opened.append((kind.removesuffix("_open"), canvas.length, str(token.attrGet("href") or "")))
            case kind if kind.endswith("_close") and opened:
                name, start, href = opened.pop()
                length = canvas.length - start
                if name == "link" and not (may_link(href) and _WEB.match(href)):
                    _address(href, canvas)
                elif name in _INLINE:
                    canvas.entities.append(
                        MessageEntity(_INLINE[name], start, length, url=href if name == "link" else None)
                    )
            case _:
                canvas.write(token.content)


def _picture(words: str, address: str, canvas: _Canvas) -> None:
    """A link, as an answer has no pictures."""
    start = canvas.length
    _text(words or address, canvas)
    if may_link(address) and _WEB.match(address):
        length = canvas.length - start
        canvas.entities.append(MessageEntity(MessageEntity.TEXT_LINK, start, length, url=address))
    elif words not in ("", address):
        _address(address, canvas)


def _text(text: str, canvas: _Canvas) -> None:
    """Words. Telegram itself makes links of its own schemes, also of those that a model wrote: not in code."""
    end = 0
    for match in _OWN_SCHEMES.finditer(text):
        canvas.write(text[end : match.start()])
        _code_inline(match[0], canvas)
        end = match.end()
    canvas.write(text[end:])


def _address(href: str, canvas: _Canvas) -> None:
    """An address that is no link. Telegram takes mailto: for a host, but knows an a@b.c by itself."""
    if may_link(href) and href[:5].lower() == "mailt":
        canvas.write(f" ({href.partition(':')[2]})")
    elif href:
        canvas.write(" (")
        _code_inline(href, canvas)
        canvas.write(")")


def _code_inline(content: str, canvas: _Canvas) -> None:
    start = canvas.length
    canvas.write(content)
    canvas.entities.append(_entity(MessageEntity.CODE, start, canvas.length - start))
