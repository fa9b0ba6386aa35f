"""Who may talk to the bot. By ids only, never by names, and nobody by default."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from glmbot.keys import UserKey
from glmbot.messages import Message, Role

__all__ = ["Access"]


@dataclass(frozen=True, slots=True)
class Access:
    """`chats` are (platform, chat id) whose every member may talk; `open_platforms` admit everybody."""

    admins: Collection[UserKey] = field(default_factory=frozenset[UserKey])
    users: Collection[UserKey] = field(default_factory=frozenset[UserKey])
    chats: Collection[tuple[str, str]] = field(default_factory=frozenset[tuple[str, str]])
    open_platforms: Collection[str] = field(default_factory=frozenset[str])

    def role(self, message: Message) -> Role | None:
        """None: not allowed. An adapter's vouching counts only where nothing higher is configured."""
        if message.user in self.admins:
            return Role.ADMIN
        if message.vouched is not None:
            return message.vouched
        allowed = (
            message.user in self.users
            or (message.user.platform, message.conversation.chat) in self.chats
            or message.user.platform in self.open_platforms
        )
        return Role.USER if allowed else None
