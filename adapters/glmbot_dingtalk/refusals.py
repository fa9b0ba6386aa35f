"""What DingTalk's refusals mean: https://open.dingtalk.com/document/orgapp/error-code. They are names.
What is not known here means no more than that this request was refused."""

from __future__ import annotations

from collections.abc import Sequence

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

__all__ = ["KNOWN", "TOKEN_ENDED", "WRONG_APP", "refused"]

# A part of the code in small letters, and what it means. The first that fits counts.
KNOWN: Sequence[tuple[str, type[NotWritten]]] = (
    ("qpslimit", Flooded),
    ("throttling", Flooded),
    ("ratelimit", Flooded),
    ("accesstokenpermissiondenied", Refused),
    ("cardnotexist", Missing),
    ("card.notexist", Missing),
    ("outtrackid.notexist", Missing),
    ("conversation.notexist", Gone),
    ("conversationnotexist", Gone),
    ("robot.notexist", Closed),
    ("robotnotinconversation", Closed),
    ("user.notexist", Gone),
    ("staffid.notexisted", Gone),
    ("systemerror", Unreachable),
    ("serviceunavailable", Unreachable),
    ("internalerror", Unreachable),
)
TOKEN_ENDED = frozenset({"invalidauthentication", "invalidaccesstoken", "accesstokenexpired"})
WRONG_APP = frozenset({"invalidclientidorsecret", "invalidclientid", "invalidparameter.appkey", "authfailed"})
_WAIT_S = 1.0


def refused(status: int, code: str, words: str) -> NotWritten:
    """What an answer that is no success means. code: "" of a page."""
    said = f"DingTalk: {code or status} {words}".strip()
    name = code.lower()
    meaning = next((known for part, known in KNOWN if part in name), None)
    if status == 429 or meaning is Flooded:
        return Flooded(_WAIT_S)
    if meaning is not None:
        return meaning(said)
    if not code:
        return refused_by_page(status, said)
    return Refused(said) if status < 500 and name not in TOKEN_ENDED else Unreachable(said)
