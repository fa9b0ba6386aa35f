"""One conversation, one answer at a time, in order of arrival; conversations never wait for each other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from glmbot.dialogue.pending import Pending
from glmbot.errors import ClaimLost, Superseded
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Reply, ReplyState

__all__ = ["Lanes", "Ticket"]


class Ticket:
    """A place in a conversation's lane. `stop` asks its holder to end early, wherever it is by then.

    `left` is set once it is given back. `ref` is the question's message, `reply` what its answer looks like now.
    `lost`: another process answers, and nothing more is to be said here; `superseded`: its question says something
    else by now, and is answered anew. `of_user`, `of_source`: how much they had in progress when it joined, this
    included.
    """

    def __init__(self, conversation: ConversationKey, user: UserKey, ref: str, source: str) -> None:
        self.conversation = conversation
        self.user = user
        self.ref = ref
        self.source = source
        self.since = time.monotonic()
        self.reply = Reply("", ReplyState.QUEUED)
        self.stop = asyncio.Event()
        self.left = asyncio.Event()
        self.of_user = self.of_source = 1
        self.lost = False
        self.superseded = False
        self._turn = asyncio.Event()

    async def wait(self) -> None:
        """Return when all who came before have left. Raises ClaimLost."""
        await self._turn.wait()
        self.check()

    def check(self) -> None:
        """Raises ClaimLost."""
        if self.lost:
            raise ClaimLost(self.conversation)
        if self.superseded:
            raise Superseded(self.conversation)

    def advance(self) -> None:
        self._turn.set()


class Lanes:
    def __init__(self, tell: Callable[[str], None] = lambda _: None, pending: Pending | None = None) -> None:
        """tell: called with what other processes must stop too, as `obey` takes it. pending: counts who is
        here."""
        self._tell = tell
        self._pending = pending or Pending()
        self._lanes: dict[ConversationKey, deque[Ticket]] = {}

    def join(
        self,
        conversation: ConversationKey,
        user: UserKey,
        ref: str = "",
        *,
        first: bool = False,
        source: str = "",
    ) -> Ticket:
        """Take the next place, at once: who joins first is served first.

        `first`: before all who wait, behind the one that is being answered.
        """
        lane = self._lanes.setdefault(conversation, deque())
        ticket = Ticket(conversation, user, ref, source)
        ticket.of_user, ticket.of_source = self._pending.enter(str(user), source)
        lane.insert(1 if first else len(lane), ticket)
        lane[0].advance()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.conversation]
        lane.remove(ticket)
        ticket.left.set()
        self._pending.leave(str(ticket.user), ticket.source)
        if lane:
            lane[0].advance()
        else:
            del self._lanes[ticket.conversation]

    def busy(self, conversation: ConversationKey) -> bool:
        return conversation in self._lanes

    def stop(self, conversation: ConversationKey, ref: str | None = None) -> int:
        """Ask everyone in the lane (with this question's ref) to end early. Returns how many there were."""
        lane = self._lanes.get(conversation, ())
        return _stop(ticket for ticket in lane if ref is None or ticket.ref == ref)

    def withdraw(self, conversation: ConversationKey, ref: str) -> None:
        """Stop this question's answer wherever it is written."""
        if not self.stop(conversation, ref):
            self._tell(f"withdraw {conversation} {ref}")

    def supersede(self, conversation: ConversationKey, ref: str) -> None:
        """This question's words have changed: its answer ends at once, wherever it is, and is not recorded."""
        for ticket in self._lanes.get(conversation, ()):
            if ticket.ref == ref:
                ticket.superseded = True
                ticket.stop.set()
                ticket.advance()

    def stop_user(self, user: UserKey) -> None:
        """Stop all of this person's answers, also those of other processes."""
        self._tell(f"stop {user}")
        self._stop_user(user)

    async def ended_of(self, user: UserKey, within_s: float) -> None:
        """Wait until nothing of what this person has asked is being answered here, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for ticket in [each for each in self.all() if each.user == user]:
                    await ticket.left.wait()

    def obey(self, words: str) -> None:
        """Do what the lanes of another process told."""
        match words.split(" ", 2):
            case ["stop", user]:
                self._stop_user(UserKey.parse(user))
            case ["withdraw", conversation, ref]:
                self.stop(ConversationKey.parse(conversation), ref)
            case _:
                pass

    def lose(self, conversation: ConversationKey) -> None:
        """Another process has this conversation."""
        for ticket in self._lanes.get(conversation, ()):
            ticket.lost = True
            ticket.stop.set()

    def _stop_user(self, user: UserKey) -> None:
        _stop(ticket for ticket in self.all() if ticket.user == user)

    def all(self) -> Sequence[Ticket]:
        return [ticket for lane in self._lanes.values() for ticket in lane]


def _stop(tickets: Iterable[Ticket]) -> int:
    stopped = 0
    for ticket in tickets:
        ticket.stop.set()
        stopped += 1
    return stopped
