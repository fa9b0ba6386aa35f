"""An answer's words as QQ takes them: plain, or in its Markdown where the bot was granted that.

Nothing that the model writes may act: https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/trans/text-chain.html
names tags that mention people, and some that send words in the name of whoever touches them.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from glmbot.delivery.plain import plain_text
from glmbot.delivery.rewritten import Dialect

__all__ = [
    "LONGEST_TEXT",
    "NOTICE_ROOM",
    "Addresses",
    "markdown_fits",
    "plain_fits",
    "to_markdown",
    "to_plain",
]

# "QQ 单条消息有字符数限制（约 5000）": src/transport/chunker.ts of https://github.com/tencent-connect/dsh-qqbot.
LONGEST_TEXT = 5000
NOTICE_ROOM = 400
_SIGNS = re.compile(r"[\\`*_~\[\]|#]")
_OWN_TAG = re.compile(r"<(?=[@#/!]|qqbot|emoji:|faceType)", re.IGNORECASE)
_TAG = re.compile(r"<(?=[@#/!A-Za-z])")
_EVERYONE = re.compile(r"@(?=everyone|全体成员)", re.IGNORECASE)
# https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/message_format.html, 转义内容, in guilds.
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>()\[\]\"'，。；、）】]{2,2000}", re.IGNORECASE)
_DOT = re.compile(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z0-9])")
_LINK = {"en": "[link]", "zh": "[链接]"}


class Addresses(IntEnum):
    """What of the addresses of web pages stands in a message: QQ refuses those that are not in the bot's list."""

    WHOLE = 0
    LEFT_OUT = 1
    NO_NAMES = 2
    """Nor what looks like a host's name, as parts of a program do."""


def to_plain(markdown: str, notice: str, addresses: Addresses, language: str, *, guild: bool) -> str:
    words = plain_text(markdown) if markdown else ""
    text = _without("\n\n".join(filter(None, (words, notice))) or "…", addresses, language)
    return _harmless(text, guild=guild)


def to_markdown(markdown: str, notice: str, addresses: Addresses, language: str) -> str:
    words = _DIALECT.render(_without(markdown, addresses, language)) if markdown else ""
    note = _words(_without(notice, addresses, language))
    return "\n\n".join(filter(None, (words, note))) or "…"


def plain_fits(markdown: str, *, guild: bool) -> bool:
    return len(_harmless(plain_text(markdown), guild=guild)) <= LONGEST_TEXT - NOTICE_ROOM - 2


@lru_cache(maxsize=256)
def markdown_fits(markdown: str) -> bool:
    return len(_DIALECT.render(markdown)) <= LONGEST_TEXT - 2 * NOTICE_ROOM - 2


def _without(text: str, addresses: Addresses, language: str) -> str:
    if addresses >= Addresses.LEFT_OUT:
        text = _ADDRESS.sub(_LINK.get(language, _LINK["en"]), text)
    if addresses >= Addresses.NO_NAMES:
        text = _DOT.sub("．", text)
    return text


def _harmless(text: str, *, guild: bool) -> str:
    text = _EVERYONE.sub("@\u200b", text)
    if guild:
        return re.sub(r"[&<>]", lambda sign: _ESCAPES[sign[0]], text)
    return _OWN_TAG.sub("<\u200b", text)


def _words(text: str) -> str:
    return _code(_SIGNS.sub(lambda sign: f"\\{sign[0]}", text))


def _code(code: str) -> str:
    return _EVERYONE.sub("@\u200b", _TAG.sub("<\u200b", code))


_DIALECT = Dialect(_words, _code)
