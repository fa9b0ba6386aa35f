"""What WeCom's refusals mean: https://developer.work.weixin.qq.com/document/path/90313, for the interfaces and
for the long connection alike. What is not known here means no more than that this request was refused."""

from __future__ import annotations

from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    NotWritten,
    Refused,
    Unreachable,
    refused_by_page,
)

__all__ = ["MEANINGS", "STREAM_GONE", "TOKEN_ENDED", "WRONG_SECRET", "StreamGone", "explained", "refused"]


class StreamGone(Refused):
    """Neither can this question be replied to any more, nor can what replies to it grow."""


MEANINGS: dict[int, type[NotWritten]] = {
    -1: Unreachable,  # the system is busy
    45009: Flooded,  # the interface was called too often
    45033: Flooded,  # too many at a time
    45011: Flooded,  # the interface was called too often in a minute
    40003: Gone,  # no such member
    60111: Gone,  # no such member
    81013: Gone,  # nobody of those it is for may get it
    82001: Gone,  # it is for nobody
    86008: Gone,  # no such chat, or it was dissolved
    48002: Closed,  # the interface is not allowed
    60011: Closed,  # no right to this member, or the application is switched off
    60020: Closed,  # from an address that is not trusted
    301002: Closed,  # no right to this application
    40056: Closed,  # no such application
    846609: Unreachable,  # the connection has not logged in
}
# "Too often" is said without a time: too many in one moment, or in the minute for which they are counted.
_WAIT_S = {45033: 1.0, 45009: 60.0, 45011: 60.0}
TOKEN_ENDED = frozenset({40014, 41001, 42001})
WRONG_SECRET = frozenset({40001, 40013, 40091, 41002, 41004, 853000, 93019})
"""Of an application, or of a smart bot."""
# invalid req_id; the stream is not refreshed any more:
# https://github.com/WecomTeam/wecom-openclaw-plugin names both.
STREAM_GONE = frozenset({846605, 846608})

_EXPLAINED = {
    60020: "this machine's public address is not among the application's trusted IPs: add it on its page",
    48002: "the application may not use this interface: look at its permissions",
    301002: "the Secret is that of another application than agent_id",
    40056: "there is no application with this agent_id in the company",
    60011: "the application has no right to this member: see its visible range",
    81013: "nobody of those it is for is in the application's visible range",
}


def explained(code: int) -> str:
    """What to do about it, where that is known."""
    return _EXPLAINED.get(code, "")


def refused(code: int, words: str, *, status: int = 200, file: bool = False) -> NotWritten:
    """What an answer that is no success means. code: 0 of a page. file: to an upload."""
    meaning = MEANINGS.get(code)
    said = f"WeCom: {code or status} {explained(code) or words}".strip()
    if code in STREAM_GONE:
        return StreamGone(said)
    # Not all of the codes for "too often" are told.
    if status == 429 or meaning is Flooded or (meaning is None and "freq" in words.lower()):
        return Flooded(_WAIT_S.get(code, 10.0))
    if meaning is not None:
        return meaning(said)
    if not code:
        return refused_by_page(status, said, file=file)
    return Refused(said) if status < 500 and code not in TOKEN_ENDED else Unreachable(said)
