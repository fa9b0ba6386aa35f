"""The model's Markdown as that of Feishu's cards, written anew from what it means.

https://open.feishu.cn/document/feishu-cards/card-json-v2-components/content-components/rich-text: beside Markdown
it reads tags, of which `<at id=all>` calls everybody, and names of emoji between colons. So signs that mean
something there are written as character references, which that page names; and no tag begins in code, where it is
not said whether references are read.
"""

from __future__ import annotations

import re
from functools import lru_cache

from glmbot.delivery.rewritten import Dialect

__all__ = ["LONGEST_CARD", "LONGEST_TEXT", "NOTICE_ROOM", "escaped", "fits", "render"]

# 30 KB a card, all of its JSON: code 200860 of
# https://open.feishu.cn/document/cardkit-v1/card-element/content
LONGEST_CARD = 30 * 1024
_FOR_THE_REST = 4096
LONGEST_TEXT = 8000
"""Characters; well below the bytes."""
NOTICE_ROOM = 400
_SIGNS = re.compile(r"[\\`*_~<>\[\]|]|&(?=[#A-Za-z])|:(?=[A-Za-z][A-Za-z0-9_]*:)|\$")
_LINE_BEGINS = re.compile(
    r"^(?P<indent>\s*)(?:(?P<sign>[#+=-])|(?P<number>\d{1,9})(?P<dot>[.)]))", re.MULTILINE
)
_TAG = re.compile(r"<(?=[A-Za-z/!])")


def render(markdown: str) -> str:
    """Markdown of a card. "" where it shows nothing."""
    return _DIALECT.render(markdown)


def escaped(text: str) -> str:
    """Words as words, wherever they stand."""
    words = _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", text)
    return _LINE_BEGINS.sub(_escaped_beginning, words)


@lru_cache(maxsize=256)
def fits(markdown: str) -> bool:
    """Whether Feishu takes this piece as one card with a notice under it."""
    written = render(markdown)
    # In the card's JSON, quotes and line breaks take another byte, and it is text within text.
    bytes_ = len(written.encode()) + 3 * sum(map(written.count, '"\n\\'))
    return bytes_ <= LONGEST_CARD - _FOR_THE_REST and len(written) <= LONGEST_TEXT - NOTICE_ROOM


def _escaped_beginning(match: re.Match[str]) -> str:
    if match["sign"] is not None:
        return f"{match['indent']}&#{ord(match['sign'])};"
    return f"{match['indent']}{match['number']}&#{ord(match['dot'])};"


def _untagged(code: str) -> str:
    return _TAG.sub("<\u200b", code)


_DIALECT = Dialect(escaped, _untagged)
