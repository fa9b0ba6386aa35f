"""What Slack's refusals mean. What is not known here means nothing more than that this request was refused.

The names: https://docs.slack.dev/reference/methods/chat.postMessage#errors, and the same of chat.update,
chat.delete and files.completeUploadExternal. Rate limits: https://docs.slack.dev/apis/web-api/rate-limits
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from enum import Enum, auto
from typing import Any, TypeVar

import aiohttp
from slack_sdk.errors import SlackClientError

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

__all__ = [
    "MEANINGS",
    "BlocksRefused",
    "Lacking",
    "Meaning",
    "StreamOpen",
    "StreamOver",
    "ThreadMissing",
    "ask",
    "error_of",
    "needed_scope",
]

_T = TypeVar("_T")


class Meaning(Enum):
    GONE = auto()
    """Nothing can be written to this chat any more."""
    CLOSED = auto()
    """Nothing may be written there for now; an administrator of the workspace can change that."""
    MISSING = auto()
    """The message to edit or to delete is not there, or can't be edited any more."""
    THREAD = auto()
    """The thread is not there."""
    LACKING = auto()
    """The workspace, or the app in it, has no such thing at all."""
    STREAM_OPEN = auto()
    """More may still be appended to the message, so it takes nothing else."""
    STREAM_OVER = auto()
    """Nothing can be appended to the message any more."""
    BLOCKS = auto()
    """The layout is refused, not the words."""
    PASSES = auto()
    """Not now."""
    SLOWER = auto()
    """Too many of them."""


MEANINGS = {
    "channel_not_found": Meaning.GONE,
    "user_not_found": Meaning.GONE,
    "user_disabled": Meaning.GONE,
    "cannot_dm_bot": Meaning.GONE,
    "messages_tab_disabled": Meaning.GONE,
    "external_channel_migrating": Meaning.PASSES,
    "not_in_channel": Meaning.CLOSED,
    "is_archived": Meaning.CLOSED,
    "is_inactive": Meaning.CLOSED,
    "ekm_access_denied": Meaning.CLOSED,
    "team_access_not_granted": Meaning.CLOSED,
    "restricted_action": Meaning.CLOSED,
    "restricted_action_non_threadable_channel": Meaning.CLOSED,
    "restricted_action_read_only_channel": Meaning.CLOSED,
    "restricted_action_thread_locked": Meaning.CLOSED,
    "restricted_action_thread_only_channel": Meaning.CLOSED,
    "message_not_found": Meaning.MISSING,
    "cant_update_message": Meaning.MISSING,
    "edit_window_closed": Meaning.MISSING,
    "thread_not_found": Meaning.THREAD,
    "cannot_reply_to_message": Meaning.THREAD,
    "unknown_method": Meaning.LACKING,
    "method_deprecated": Meaning.LACKING,
    "deprecated_endpoint": Meaning.LACKING,
    "feature_not_enabled": Meaning.LACKING,
    "missing_scope": Meaning.LACKING,
    "no_permission": Meaning.LACKING,
    "not_allowed_token_type": Meaning.LACKING,
    "access_denied": Meaning.LACKING,
    # Undocumented, as told in https://github.com/slackapi/python-slack-sdk/issues/1859; the second is what
    # chat.delete says, also of what may never be deleted.
    "streaming_state_conflict": Meaning.STREAM_OPEN,
    "cant_delete_message": Meaning.STREAM_OPEN,
    "message_not_in_streaming_state": Meaning.STREAM_OVER,
    "stopped_by_user": Meaning.STREAM_OVER,
    "invalid_chunks": Meaning.BLOCKS,
    "invalid_blocks": Meaning.BLOCKS,
    "invalid_blocks_format": Meaning.BLOCKS,
    "block_mismatch": Meaning.BLOCKS,
    "msg_blocks_too_long": Meaning.BLOCKS,
    "ratelimited": Meaning.SLOWER,
    "rate_limited": Meaning.SLOWER,
    "message_limit_exceeded": Meaning.SLOWER,
    "accesslimited": Meaning.PASSES,
    "internal_error": Meaning.PASSES,
    "fatal_error": Meaning.PASSES,
    "request_timeout": Meaning.PASSES,
    "service_unavailable": Meaning.PASSES,
    "update_failed": Meaning.PASSES,
    # The token was changed: it is read again at the next start.
    "account_inactive": Meaning.PASSES,
    "invalid_auth": Meaning.PASSES,
    "not_authed": Meaning.PASSES,
    "token_expired": Meaning.PASSES,
    "token_revoked": Meaning.PASSES,
}
_SHORTEST_WAIT_S = 1.0
_LONGEST_WAIT_S = 3600.0
_USUAL_WAIT_S = 5.0


class BlocksRefused(Refused):
    """The layout of a message was refused."""


class ThreadMissing(Refused):
    """The thread that it should stand in is not there."""


class Lacking(Refused):
    """It is refused everywhere in the workspace."""


class StreamOpen(Refused):
    """The message is a stream that has not ended."""


class StreamOver(Refused):
    """The message is no stream, or none any more."""


_RAISED: dict[Meaning, type[NotWritten]] = {
    Meaning.GONE: Gone,
    Meaning.CLOSED: Closed,
    Meaning.MISSING: Missing,
    Meaning.THREAD: ThreadMissing,
    Meaning.LACKING: Lacking,
    Meaning.STREAM_OPEN: StreamOpen,
    Meaning.STREAM_OVER: StreamOver,
    Meaning.BLOCKS: BlocksRefused,
    Meaning.PASSES: Unreachable,
}


async def ask(request: Awaitable[_T]) -> _T:
    """The answer to a request. Raises the exceptions of `glmbot.delivery.outlet`, and their kinds above."""
    try:
        return await request
    except SlackClientError as error:
        status, name = _status_of(error), error_of(error)
        meaning = MEANINGS.get(name)
        if status == 429 or meaning is Meaning.SLOWER:
            raise Flooded(_bounded(_header(error, "Retry-After"))) from error
        words = f"Slack: {name or type(error).__name__}"
        if scope := needed_scope(error):
            words += f"; the app needs the scope {scope}"
        if meaning is not None:
            raise _RAISED[meaning](words) from error
        if not name:
            raise refused_by_page(status, words) from error
        raise (Refused(words) if status < 500 else Unreachable(words)) from error
    except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise Unreachable(f"Slack: {outage(error)}") from error


def error_of(error: BaseException | None) -> str:
    """Slack's own name for what it refused; "" where it is none of Slack's."""
    found = _field(error, "error")
    return found if isinstance(found, str) and len(found) <= 100 and found.isprintable() else ""


def needed_scope(error: BaseException | None) -> str:
    found = _field(error, "needed")
    return found if isinstance(found, str) and len(found) <= 200 and found.isprintable() else ""


def _field(error: BaseException | None, name: str) -> object:
    data: Any = getattr(getattr(error, "response", None), "data", None)
    return data.get(name) if isinstance(data, dict) else None


def _status_of(error: BaseException) -> int:
    status: Any = getattr(getattr(error, "response", None), "status_code", 0)
    return status if type(status) is int else 0


def _header(error: BaseException, name: str) -> object:
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    return next((value for key, value in headers.items() if str(key).lower() == name.lower()), None)


def _bounded(seconds: object) -> float:
    """Whatever a server says, no chat rests for years, and none is asked without end."""
    try:
        wait = float(seconds)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return _USUAL_WAIT_S
    return _USUAL_WAIT_S if math.isnan(wait) else min(max(wait, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
