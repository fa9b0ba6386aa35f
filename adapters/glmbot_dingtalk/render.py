"""The model's Markdown as that of DingTalk's cards.

https://open.dingtalk.com/document/orgapp/types-of-messages-sent-by-robots: beside Markdown it reads some HTML, and
`dtmd:` addresses send a message in the name of whoever touches them. So no tag is written, and links are those of
the web and of mail.
"""

from __future__ import annotations

import re
from functools import lru_cache

from glmbot.delivery.rewritten import Dialect

__all__ = ["LONGEST_TEXT", "NOTICE_ROOM", "escaped", "fits", "render"]

# Our own: cards of more are slow to draw on telephones.
LONGEST_TEXT = 8000
NOTICE_ROOM = 400
_SIGNS = re.compile(r"[\\`*_~\[\]|#]")
_TAG = re.compile(r"<(?=[A-Za-z/!])")
_SCHEME = re.compile(r"\b(?:dtmd|dingtalk)(?=:)", re.IGNORECASE)
_REFERENCE = re.compile(r"&(?=[#A-Za-z])")


def escaped(text: str) -> str:
    """Words as words. An address of DingTalk's own is held apart by no width."""
    words = _SIGNS.sub(lambda sign: f"\\{sign[0]}", _REFERENCE.sub("&amp;", text))
    return _apart(words.replace("<", "&lt;").replace(">", "&gt;"))


def render(markdown: str) -> str:
    """ "" where it shows nothing."""
    return _DIALECT.render(markdown)


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    return len(render(markdown)) <= LONGEST_TEXT - NOTICE_ROOM


def _apart(text: str) -> str:
    return _SCHEME.sub(lambda scheme: f"{scheme[0]}\u200b", text)


def _code(code: str) -> str:
    return _apart(_TAG.sub("<\u200b", code))


_DIALECT = Dialect(escaped, _code)
