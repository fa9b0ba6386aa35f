"""What the gateway says, as the library reads it: what is partial is filled in, what is malformed is left out.

An event that the library trips over would end the connection, and all others that are on their way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["forgiving", "read"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

# What the library needs of any channel. An interaction's is a partial object, and in a server that the library has
# not cached there is nothing else to go by.
# https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object-interaction-structure
_CHANNEL = {
    "name": "",
    "position": 0,
    "bitrate": 0,
    "user_limit": 0,
    "owner_id": "0",
    "message_count": 0,
    "member_count": 0,
    "thread_metadata": {
        "archived": False,
        "auto_archive_duration": 1440,
        "archive_timestamp": "2015-01-01T00:00:00+00:00",
    },
}


def forgiving(name: str, parse: Callable[[Any], None]) -> Callable[[Any], None]:
    """The library's `parse` of the events of that name, so that it takes whatever comes."""

    def parsed(event: Any) -> None:
        read(name, lambda: parse(_filled_in(event) if name == "INTERACTION_CREATE" else event))

    return parsed


def read(what: str, reading: Callable[[], _T]) -> _T | None:
    """None, and a word in the log, for whatever a malformed event trips over."""
    try:
        return reading()
    except Exception as error:
        # Neither what was said nor by whom: an error's words may hold it.
        _log.warning("Discord: a %s that could not be read is left out (%s)", what, type(error).__name__)
        return None


def _filled_in(event: Any) -> Any:
    channel: object = event.get("channel")
    if not isinstance(channel, dict):
        return event
    given = cast(dict[str, Any], channel)
    return {**event, "channel": {**_CHANNEL, **given}}
