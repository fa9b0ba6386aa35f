"""What Feishu's refusals mean. What is not known here means nothing more than that this request was refused.

The codes: https://open.feishu.cn/document/server-docs/im-v1/message/reply, and the same of
https://open.feishu.cn/document/cardkit-v1/card-element/content, https://open.feishu.cn/document/cardkit-v1/card/update;
those of all: https://open.feishu.cn/document/server-docs/api-call-guide/generic-error-code
"""

from __future__ import annotations

from enum import Enum, auto

from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Missing,
    NotWritten,
    Refused,
    Unreachable,
    refused_by_page,
)

__all__ = [
    "MEANINGS",
    "TOKEN_ENDED",
    "WRONG_APP",
    "CardRefused",
    "Meaning",
    "OutOfOrder",
    "QuestionGone",
    "StreamClosed",
    "refused",
]


class Meaning(Enum):
    GONE = auto()
    """Nothing can be written to this chat any more."""
    CLOSED = auto()
    """Nothing may be written there for now; an administrator can change that."""
    MISSING = auto()
    """The message or the card is not there any more."""
    QUESTION = auto()
    """What would be replied to is not there, or takes no replies."""
    CARD = auto()
    """The card's layout is refused, not the words."""
    STREAM = auto()
    """The card no longer takes single texts, but may be written as a whole."""
    ORDER = auto()
    """A later change of the card was made before."""
    PASSES = auto()
    """Not now."""
    SLOWER = auto()
    """Too many of them."""


MEANINGS = {
    230002: Meaning.CLOSED,  # the bot is not in the group
    230006: Meaning.CLOSED,  # the bot's ability is not activated
    230013: Meaning.GONE,  # no availability to this user
    230018: Meaning.CLOSED,  # not allowed at the group's settings
    230035: Meaning.CLOSED,  # muted, or blocked
    230038: Meaning.GONE,  # a private chat over tenants
    230075: Meaning.GONE,  # an encrypted chat
    232009: Meaning.GONE,  # the chat was dissolved
    230011: Meaning.QUESTION,  # the message was recalled
    230019: Meaning.QUESTION,  # the topic does not exist
    230050: Meaning.QUESTION,  # invisible to the bot
    230054: Meaning.QUESTION,  # not for this kind of message
    230071: Meaning.QUESTION,  # no topics in this group
    230072: Meaning.QUESTION,  # aggregated messages
    230111: Meaning.QUESTION,  # it will destroy itself
    200740: Meaning.MISSING,  # the card does not exist
    200750: Meaning.MISSING,  # the card has expired: 14 days
    200220: Meaning.CARD,  # failed to generate the card
    230099: Meaning.CARD,  # failed to create the card's content
    300301: Meaning.CARD,
    300305: Meaning.CARD,  # more than 200 components
    300313: Meaning.CARD,
    200850: Meaning.STREAM,  # streaming was closed after ten minutes
    300309: Meaning.STREAM,  # streaming is closed
    300310: Meaning.STREAM,
    300317: Meaning.ORDER,  # the sequence did not increase
    200810: Meaning.PASSES,  # somebody is pressing a button of the card
    230049: Meaning.PASSES,  # it is being sent
    300120: Meaning.PASSES,
    230020: Meaning.SLOWER,
    99991400: Meaning.SLOWER,
    11232: Meaning.SLOWER,
    1000004: Meaning.SLOWER,
}
# The tenant's token was revoked, or has ended before its time.
TOKEN_ENDED = frozenset({99991661, 99991663, 99991668, 99991671})
# https://open.feishu.cn/document/server-docs/authentication-management/access-token/tenant_access_token_internal
WRONG_APP = frozenset({10003, 10014, 10013, 1000040344, 514, 403})
_WAIT_S = 1.0


class CardRefused(Refused):
    """The layout of a card was refused."""


class QuestionGone(Refused):
    """What would be replied to is not there."""


class StreamClosed(Refused):
    """The card takes no single texts any more."""


class OutOfOrder(Refused):
    """A later change was made before."""


_RAISED: dict[Meaning, type[NotWritten]] = {
    Meaning.GONE: Gone,
    Meaning.CLOSED: Closed,
    Meaning.MISSING: Missing,
    Meaning.QUESTION: QuestionGone,
    Meaning.CARD: CardRefused,
    Meaning.STREAM: StreamClosed,
    Meaning.ORDER: OutOfOrder,
    Meaning.PASSES: Unreachable,
}


def refused(
    status: int, code: int, words: str, *, retry_after: float = 0.0, file: bool = False
) -> NotWritten:
    """What an answer that is no success means. code: 0 where a page has none. file: to an upload."""
    meaning = MEANINGS.get(code)
    if status == 429 or meaning is Meaning.SLOWER:
        return Flooded(max(_WAIT_S, retry_after))
    said = f"Feishu: {code or status} {words}".strip()
    if meaning is not None:
        return _RAISED[meaning](said)
    if not code:
        return refused_by_page(status, said, file=file)
    return Refused(said) if status < 500 and code not in TOKEN_ENDED else Unreachable(said)
