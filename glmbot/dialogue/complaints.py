"""What keeps messages from being given out is told once, and its end too."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from glmbot.background import Troubles
from glmbot.errors import StoreError
from glmbot.keys import ConversationKey

__all__ = ["DamagedConversations", "StoreComplaint"]

_log = logging.getLogger(__name__)


class StoreComplaint:
    """What the store refuses at the moment. It is tried on all the while."""

    def __init__(self) -> None:
        self._said = ""

    def make(self, error: StoreError) -> None:
        if self._said != str(error):
            _log.error("%s; trying on", error)
        self._said = str(error)

    def withdraw(self) -> None:
        if self._said:
            _log.info("the store is back")
        self._said = ""


class DamagedConversations:
    """Those that can't be looked at stand among what is not well, until they are mended or nothing waits there."""

    def __init__(self, troubles: Troubles) -> None:
        self._troubles = troubles
        self._known: set[ConversationKey] = set()

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, conversation: ConversationKey, error: Exception) -> None:
        reason = str(error) if isinstance(error, StoreError) else type(error).__name__
        if conversation not in self._known:
            _log.error(
                "%s can't be looked at, and waits: %s",
                conversation,
                reason,
                exc_info=None if isinstance(error, StoreError) else error,
            )
        self._known.add(conversation)
        self._troubles.begin(_part(conversation.platform), f"can't be answered: {reason}", partial=True)

    def mended(self, conversation: ConversationKey) -> None:
        self._known.discard(conversation)
        self._tell(conversation.platform)

    def keep_only(self, platform: str, found: Iterable[ConversationKey]) -> None:
        """Nothing waits any more in the others of that platform."""
        gone = self._known.difference(found)
        self._known -= {conversation for conversation in gone if conversation.platform == platform}
        self._tell(platform)

    def _tell(self, platform: str) -> None:
        if not any(conversation.platform == platform for conversation in self._known):
            self._troubles.end(_part(platform))


def _part(platform: str) -> str:
    return f"{platform}: a conversation"
