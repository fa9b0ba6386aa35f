"""What a homeserver's refusals mean. What is not known here means nothing more than that this request was refused.

The codes: https://spec.matrix.org/v1.15/client-server-api/#standard-error-response; limits of rate:
https://spec.matrix.org/v1.15/client-server-api/#rate-limiting
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from enum import Enum, auto
from typing import Any, cast

import aiohttp
from nio import ErrorResponse
from nio.exceptions import EncryptionError, GroupEncryptionError, LocalProtocolError, OlmTrustError

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
from glmbot.errors import outage

__all__ = ["MEANINGS", "TOKEN_ENDED", "Duplicate", "Meaning", "ask", "code_of", "wait_s"]


class Meaning(Enum):
    GONE = auto()
    """Nothing can be written to this room any more."""
    CLOSED = auto()
    """Nothing may be written there for now; who has the power there can change that."""
    MISSING = auto()
    """What is to be changed, or the room, is not there."""
    DUPLICATE = auto()
    """It is there already."""
    PASSES = auto()
    """Not now."""
    SLOWER = auto()
    """Too many of them."""


TOKEN_ENDED = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED"})
MEANINGS = {
    "M_FORBIDDEN": Meaning.CLOSED,
    "M_GUEST_ACCESS_FORBIDDEN": Meaning.CLOSED,
    "M_USER_LOCKED": Meaning.CLOSED,
    "M_USER_SUSPENDED": Meaning.CLOSED,
    "M_NOT_FOUND": Meaning.MISSING,
    "M_UNSUPPORTED_ROOM_VERSION": Meaning.GONE,
    "M_INCOMPATIBLE_ROOM_VERSION": Meaning.GONE,
    "M_DUPLICATE_ANNOTATION": Meaning.DUPLICATE,
    "M_LIMIT_EXCEEDED": Meaning.SLOWER,
    "M_RESOURCE_LIMIT_EXCEEDED": Meaning.PASSES,
    "M_UNKNOWN": Meaning.PASSES,
    "M_NOT_YET_UPLOADED": Meaning.PASSES,
    # The token was changed: it is read again at the next start.
    **dict.fromkeys(TOKEN_ENDED, Meaning.PASSES),
}
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 3600.0
_USUAL_WAIT_S = 5.0


class Duplicate(Refused):
    """The same reaction of ours is there."""


_RAISED: dict[Meaning, type[NotWritten]] = {
    Meaning.GONE: Gone,
    Meaning.CLOSED: Closed,
    Meaning.MISSING: Missing,
    Meaning.DUPLICATE: Duplicate,
    Meaning.PASSES: Unreachable,
}


async def ask(request: Awaitable[Any], *, file: bool = False) -> Any:
    """The answer to a request. Raises the exceptions of `glmbot.delivery.outlet`, and `Duplicate`.

    file: to an upload.
    """
    try:
        answer = await request
    except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise Unreachable(f"Matrix: {outage(error)}") from error
    except (LocalProtocolError, EncryptionError, GroupEncryptionError, OlmTrustError) as error:
        # The room is not known yet, or a key is being shared.
        raise Unreachable(f"Matrix: {type(error).__name__}") from error
    status = _status_of(answer)
    if not isinstance(answer, ErrorResponse) and status < 400:
        return answer
    code = code_of(answer)
    meaning = MEANINGS.get(code)
    if status == 429 or meaning is Meaning.SLOWER:
        raise Flooded(wait_s(answer))
    words = f"Matrix: {code or status or type(answer).__name__}"
    if meaning is not None and (code != "M_UNKNOWN" or status >= 500):
        raise _RAISED[meaning](words)
    if not code:
        raise refused_by_page(status, words, file=file)
    raise (Refused(words) if status < 500 else Unreachable(words))


def code_of(answer: object) -> str:
    """The spec's own name for what was refused; "" where there is none."""
    given: Any = getattr(answer, "status_code", "")
    return given if isinstance(given, str) and len(given) <= 100 and given.isprintable() else ""


def wait_s(answer: object) -> float:
    """How long a homeserver wants to be left alone: Retry-After, or what was said before there was that header.
    Whatever it says, no room rests for years, and none is asked without end."""
    headers: Any = getattr(getattr(answer, "transport_response", None), "headers", None) or {}
    milliseconds: Any = getattr(answer, "retry_after_ms", None)
    for given, unit in ((milliseconds, 1000.0), (headers.get("Retry-After"), 1.0)):
        try:
            seconds = float(cast(float, given)) / unit
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isnan(seconds):
            continue
        return min(max(seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
    return _USUAL_WAIT_S


def _status_of(answer: object) -> int:
    status: Any = getattr(getattr(answer, "transport_response", None), "status", 0)
    return status if type(status) is int else 0
