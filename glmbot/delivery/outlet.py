"""One answer's messages on a platform: the requests that an adapter makes, and what their refusals mean.

NotWritten
 +-- Flooded       not now: after a time that the platform names
 +-- Unreachable   not now, and nobody knows whether it was taken
 |    +-- Unsent   not now, and it was not
 +-- Closed        not now, and never when that stays so
 +-- Reduced       not all of it: ask again
 +-- Missing       what is to be changed is gone
 +-- Refused       never, as it is
 +-- Gone          never, whatever it is
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.delivery.abilities import Ability
from glmbot.messages import Action, Attachment, Reply

__all__ = [
    "Closed",
    "Flooded",
    "Gone",
    "Missing",
    "NotWritten",
    "Outlet",
    "Piece",
    "Reduced",
    "Refused",
    "Unreachable",
    "Unsent",
    "abilities_of",
    "page_is_final",
    "refused_by_page",
]

# It is the request itself that is too large, whoever on the way says so.
_TOO_LARGE = (413, 414, 431)
_LATER = (408, 425, 429)


class NotWritten(Exception):
    """A request that did not do what it should."""


class Flooded(NotWritten):
    """The platform refuses writes to this chat for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"flood limit, {retry_after} s")
        self.retry_after = retry_after


class Unreachable(NotWritten):
    """The platform did not take the write this time: network, time-out, server error."""


class Unsent(Unreachable):
    """Nothing has left for the platform: there is no connection."""


class Gone(NotWritten):
    """This chat can't be written to any more: blocked, left, deleted."""


class Closed(NotWritten):
    """This chat may not be written to for now: a closed topic, the bot's rights. Gone when that stays so."""


class Missing(NotWritten):
    """The message to edit is no longer there."""


class Refused(NotWritten):
    """The platform will never take this request as it is."""


class Reduced(NotWritten):
    """The platform refused a part of the request, which the outlet leaves out from now on: ask it again."""


def page_is_final(status: int, *, file: bool = False) -> bool:
    """Whether an answer without a code of the platform's own is the last word. It is a page of something on the
    way, which passes, unless it says that the request is too large.

    file: of an upload, which is not tried for ever: an answer may come without its files.
    """
    return status in _TOO_LARGE or (file and 300 <= status < 500 and status not in _LATER)


def refused_by_page(status: int, said: str, *, file: bool = False) -> Refused | Unreachable:
    """What such a page means; see `page_is_final`."""
    return Refused(said) if page_is_final(status, file=file) else Unreachable(said)


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: a whole piece of the model's Markdown, the bot's own line under it, and commands as buttons; or
    what the model thought before, by itself, as plain text that is shown folded."""

    text: str
    notice: str = ""
    actions: tuple[Action, ...] = ()
    thought: str = ""


class Outlet(ABC):
    """Where one answer goes. Each method is one request, without waiting, and may raise the exceptions above.

    An adapter's class derives from this one and has those methods that its abilities promise.
    """

    @property
    @abstractmethod
    def abilities(self) -> frozenset[Ability]:
        """What can be done with this answer, now: delivery decides by nothing else.

        Without ONCE what is sent where it can be edited says nothing yet, and the words come by `edit`.
        """
        ...

    @abstractmethod
    def cut(self, reply: Reply) -> Sequence[Piece]:
        """The messages that the whole text makes. At least one. Pure; a long text is cut in a thread."""
        ...

    @abstractmethod
    async def send(self, item: Piece | Attachment, place: str) -> str:
        """Returns the new message's id. `place` names it within the answer: the same place is the same message."""
        ...

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        """EDIT."""
        raise NotImplementedError

    async def remove(self, message_id: str) -> None:
        """REMOVE."""
        raise NotImplementedError

    async def draft(self, piece: Piece) -> None:
        """DRAFT."""
        raise NotImplementedError

    async def typing(self) -> None:
        """TYPING: show that something is coming, for some seconds."""
        raise NotImplementedError


_BEFORE_ABILITIES = frozenset({Ability.EDIT, Ability.REMOVE, Ability.TYPING, Ability.BUTTONS, Ability.FILE})


def abilities_of(outlet: Outlet) -> frozenset[Ability]:
    """Those of somebody else's adapter that was written for an earlier release, too: every platform could edit
    then, and two attributes, `drafts` and `sends_once`, told the rest."""
    given: frozenset[Ability] | None = getattr(outlet, "abilities", None)
    if given is not None:
        return given
    more = {Ability.DRAFT} if getattr(outlet, "drafts", False) else set[Ability]()
    return _BEFORE_ABILITIES | more | ({Ability.ONCE} if getattr(outlet, "sends_once", False) else set())
