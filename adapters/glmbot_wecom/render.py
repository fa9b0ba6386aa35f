"""What WeCom shows: Markdown in the messages of smart bots, plain text in those of applications. Pure.

https://developer.work.weixin.qq.com/document/path/101463, https://developer.work.weixin.qq.com/document/path/90236:
`<@userid>` calls somebody, `<font>` colours, `<a>` in a text is a link. None of these is written.
"""

from __future__ import annotations

import re
from functools import lru_cache

from glmbot.delivery.outlet import Piece
from glmbot.delivery.plain import plain_text
from glmbot.delivery.rewritten import Dialect

__all__ = [
    "LONGEST_MARKDOWN",
    "LONGEST_TEXT",
    "NOTICE_ROOM",
    "fits",
    "fits_text",
    "render",
    "size",
    "text_of_piece",
    "words_of_piece",
]

# Bytes of UTF-8: of a smart bot's message, https://developer.work.weixin.qq.com/document/path/101463, and of an
# application's, which is cut off behind them, https://developer.work.weixin.qq.com/document/path/90236.
LONGEST_MARKDOWN = 20480
LONGEST_TEXT = 2048
# Characters; each has at most four bytes, and those of the bot's own lines have three.
NOTICE_ROOM = 150
_NOTICE_BYTES = 4 * NOTICE_ROOM + 2
_SIGNS = re.compile(r"[\\`*_~\[\]]")
_TAG = re.compile(r"<(?=[A-Za-z/!@])")


def size(text: str) -> int:
    """In bytes of UTF-8, as WeCom counts."""
    return len(text.encode("utf-8", "surrogatepass"))


def render(markdown: str) -> str:
    """ "" where it shows nothing."""
    return _DIALECT.render(markdown)


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    return size(render(markdown)) <= LONGEST_MARKDOWN - 2 * _NOTICE_BYTES


@lru_cache(maxsize=256)
def fits_text(markdown: str) -> bool:
    return size(_inert(plain_text(markdown))) <= LONGEST_TEXT - _NOTICE_BYTES


def words_of_piece(piece: Piece) -> str:
    """A smart bot's message. One without a word would not be taken."""
    words = "\n\n".join(filter(None, (render(piece.text), _escaped(piece.notice))))
    return _within(words, LONGEST_MARKDOWN) or "…"


def text_of_piece(piece: Piece) -> str:
    """An application's message."""
    words = plain_text(piece.text) if piece.text else ""
    return _within(_inert("\n\n".join(filter(None, (words, piece.notice)))), LONGEST_TEXT) or "…"


def _within(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore").strip()


def _escaped(text: str) -> str:
    """Words as words."""
    return _inert(_SIGNS.sub(lambda sign: f"\\{sign[0]}", text))


def _inert(text: str) -> str:
    """A tag is held apart by no width."""
    return _TAG.sub("<\u200b", text)


_DIALECT = Dialect(_escaped, _inert)
