"""What Discord's refusals mean. Only what Discord itself is known to say ends a chat; all else passes, or is one
request's own.

The codes: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json. A page of a proxy's has none,
whatever its status.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable
from contextlib import suppress
from enum import StrEnum
from typing import TypeVar

import aiohttp
import discord

from glmbot.delivery.outlet import (
    Flooded,
    Gone,
    Missing,
    NotWritten,
    Refused,
    Unreachable,
    page_is_final,
)

__all__ = [
    "MEANINGS",
    "Expired",
    "Meaning",
    "Partly",
    "Reason",
    "ThreadClosed",
    "ask",
    "code_of",
    "meaning_of",
    "reason_of",
]

_T = TypeVar("_T")


class Meaning(StrEnum):
    GONE = "the chat can't be written to any more"
    MISSING = "the message is not there any more"
    EXPIRED = "the interaction can't be answered any more"
    CLOSED = "the thread is archived: opened again, or locked by a moderator"
    PASSES = "not now: the same request may be taken later"
    SLOWER = "too many of them: later"
    PARTLY = (
        "not with everything that it carries: without its file, its reference or its buttons it may be taken"
    )
    REFUSED = "never, as it is"


class Reason(StrEnum):
    """Why nothing can be written, where whoever asked can do something about it; names of lines."""

    MAY_NOT_WRITE = "discord.may_not_write"
    MAY_NOT_SEE = "discord.may_not_see"
    CLOSED = "discord.thread_closed"


MEANINGS = {
    10003: Meaning.GONE,  # Unknown channel: deleted
    10004: Meaning.GONE,  # Unknown guild: left, or deleted
    10008: Meaning.MISSING,  # Unknown message
    10013: Meaning.GONE,  # Unknown user
    10015: Meaning.EXPIRED,  # Unknown webhook
    10062: Meaning.EXPIRED,  # Unknown interaction
    20016: Meaning.SLOWER,  # slow mode of the channel
    20022: Meaning.SLOWER,  # announcement rate limits
    20028: Meaning.SLOWER,  # the channel's write rate limit
    20029: Meaning.SLOWER,  # the server's write rate limit
    30046: Meaning.SLOWER,  # too many edits of messages older than an hour
    40001: Meaning.PASSES,  # Unauthorized: the token was changed, and is read again at the next start
    40002: Meaning.PASSES,  # the account needs to be verified first
    40003: Meaning.SLOWER,  # direct messages opened too fast
    40004: Meaning.PASSES,  # sending is temporarily disabled
    40005: Meaning.PARTLY,  # Request entity too large
    40006: Meaning.PASSES,  # temporarily disabled on the server's side
    40333: Meaning.PASSES,  # internal network error: Cloudflare's, before Discord itself
    50001: Meaning.GONE,  # Missing access
    50005: Meaning.MISSING,  # a message of somebody else's can't be edited
    50007: Meaning.GONE,  # Cannot send messages to this user
    50008: Meaning.GONE,  # Cannot send messages in a non-text channel
    50013: Meaning.GONE,  # Missing permissions; of a file: Attach Files is missing
    50021: Meaning.PARTLY,  # not on a system message: the reference
    50027: Meaning.EXPIRED,  # Invalid webhook token
    50035: Meaning.PARTLY,  # Invalid form body
    50045: Meaning.PARTLY,  # the file is too large
    50046: Meaning.PARTLY,  # an invalid file
    50083: Meaning.CLOSED,  # the thread is archived
    50278: Meaning.GONE,  # no server in common with this user
    130000: Meaning.PASSES,  # overloaded
    160002: Meaning.PARTLY,  # a reply needs Read Message History
    160005: Meaning.CLOSED,  # the thread is locked
    400001: Meaning.PARTLY,  # files are limited in this server
}
_REASONS = {
    50001: Reason.MAY_NOT_SEE,
    50013: Reason.MAY_NOT_WRITE,
    50083: Reason.CLOSED,
    160005: Reason.CLOSED,
}
# Of HTTP statuses without a code that is known: those that say that something is wrong with the request itself.
_ITS_OWN_FAULT = (400, 413, 422)
_SHORTEST_WAIT_S = 1.0
_LONGEST_WAIT_S = 3600.0
_USUAL_WAIT_S = 5.0


class Partly(Refused):
    """Something that the request carries was refused."""


class Expired(Refused):
    """The interaction that this answers has ended."""


class ThreadClosed(Refused):
    """The thread is archived or locked."""


_RAISED: dict[Meaning, type[NotWritten]] = {
    Meaning.GONE: Gone,
    Meaning.MISSING: Missing,
    Meaning.EXPIRED: Expired,
    Meaning.CLOSED: ThreadClosed,
    Meaning.PASSES: Unreachable,
    Meaning.PARTLY: Partly,
    Meaning.REFUSED: Refused,
}


def meaning_of(status: int, code: int | None) -> Meaning:
    """A code that is not known here never ends a chat: it is tried again, and set aside in the end."""
    if status == 429:
        return Meaning.SLOWER
    if status >= 500:
        return Meaning.PASSES
    if code:
        return MEANINGS.get(code, Meaning.REFUSED)
    if code is None:
        return Meaning.REFUSED if page_is_final(status) else Meaning.PASSES
    return Meaning.REFUSED if status in _ITS_OWN_FAULT else Meaning.PASSES


def reason_of(error: BaseException) -> Reason | None:
    """Why, for whoever can change it. None where nobody can, or nobody knows."""
    return _REASONS.get(code_of(error.__cause__) or 0)


async def ask(request: Awaitable[_T]) -> _T:
    """The answer to a request. Raises the exceptions of `glmbot.delivery.outlet`, and their kinds above."""
    try:
        return await request
    except discord.RateLimited as error:
        raise Flooded(_bounded(error.retry_after)) from error
    except discord.HTTPException as error:
        meaning = meaning_of(error.status, code_of(error))
        if meaning is Meaning.SLOWER:
            raise Flooded(_bounded(_told_wait(error))) from error
        raise _RAISED[meaning](_short(error)) from error
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise Unreachable(_short(error)) from error


def code_of(error: BaseException | None) -> int | None:
    """Discord's own code for what it refused, 0 included. None: a page, or whatever else a proxy says."""
    if not isinstance(error, discord.HTTPException):
        return None
    code: object = error.code
    if not code:
        read_by_library = str(error.response.headers.get("Content-Type", "")).startswith("application/json")
        code = code if read_by_library else None
        if error.text.lstrip().startswith("{"):
            # The library reads no object whose type has a charset beside it, as proxies like to add.
            with suppress(ValueError, RecursionError):
                code = json.loads(error.text).get("code")
    return code if type(code) is int else None


def _told_wait(error: discord.HTTPException) -> object:
    return error.response.headers.get("Retry-After", _USUAL_WAIT_S)


def _bounded(seconds: object) -> float:
    """Whatever a server says, no chat rests for years, and none is asked without end."""
    try:
        wait = float(seconds)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return _USUAL_WAIT_S
    return _USUAL_WAIT_S if math.isnan(wait) else min(max(wait, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)


def _short(error: Exception) -> str:
    """Not a whole page."""
    return f"Discord: {' '.join(str(error)[:300].split())}"
