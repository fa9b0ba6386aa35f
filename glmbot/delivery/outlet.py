"""One answer's messages on a platform: the requests that an adapter makes, and what their refusals mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glmbot.messages import Action, Attachment, Reply

__all__ = [
    "Closed",
    "Flooded",
    "Gone",
    "Missing",
    "Outlet",
    "Piece",
    "Reduced",
    "Refused",
    "Unreachable",
]


class Flooded(Exception):
    """The platform refuses writes to this chat for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"flood limit, {retry_after} s")
        self.retry_after = retry_after


class Unreachable(Exception):
    """The platform did not take the write this time: network, time-out, server error."""


class Gone(Exception):
    """This chat can't be written to any more: blocked, left, deleted."""


class Closed(Exception):
    """This chat may not be written to for now: a closed topic, the bot's rights. Gone when that stays so."""


class Missing(Exception):
    """The message to edit is no longer there."""


class Refused(Exception):
    """The platform will never take this request as it is."""


class Reduced(Exception):
    """The platform refused a part of the request, which the outlet leaves out from now on: ask it again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: a whole piece of the model's Markdown, the bot's own line under it, and commands as buttons."""

    text: str
    notice: str = ""
    actions: tuple[Action, ...] = ()


class Outlet(Protocol):
    """Where one answer goes. Each method is one request, without waiting, and may raise the exceptions above.

    With `drafts` the last message of a growing answer is shown by `draft`, and sent when it has ended.
    """

    drafts: bool

    @property
    def sends_once(self) -> bool:
        """Whether the platform itself drops the next `send` when it is repeated by a process that does not know
        whether it was taken. Where it does not, what is sent says nothing yet, and the words come by `edit`."""
        ...

    def cut(self, reply: Reply) -> Sequence[Piece]:
        """The messages that the whole text makes. At least one. Pure; a long text is cut in a thread."""
        ...

    async def send(self, item: Piece | Attachment, place: str) -> str:
        """Returns the new message's id. `place` names it within the answer: the same place is the same message."""
        ...

    async def edit(self, message_id: str, item: Piece | Attachment) -> None: ...

    async def remove(self, message_id: str) -> None: ...

    async def draft(self, piece: Piece) -> None: ...

    async def typing(self) -> None:
        """Show that something is coming, for some seconds."""
        ...
