"""One conversation, one answer at a time, in order of arrival; conversations never wait for each other."""

from __future__ import annotations

import asyncio
from collections import deque

from glmbot.messages import ConversationKey, UserKey

__all__ = ["Lanes", "Ticket"]


class Ticket:
    """A place in a conversation's lane. `stop` asks its holder to end early, wherever it is by then."""

    def __init__(self, lane: deque[Ticket], user: UserKey) -> None:
        self.user = user
        self.stop = asyncio.Event()
        self._lane = lane
        self._turn = asyncio.Event()

    async def wait(self) -> None:
        """Return when all who came before have left."""
        await self._turn.wait()

    def _advance(self) -> None:
        self._turn.set()


class Lanes:
    def __init__(self) -> None:
        self._lanes: dict[ConversationKey, deque[Ticket]] = {}

    def join(self, conversation: ConversationKey, user: UserKey) -> Ticket:
        """Take the next place, at once: who joins first is served first."""
        lane = self._lanes.setdefault(conversation, deque())
        ticket = Ticket(lane, user)
        lane.append(ticket)
        lane[0]._advance()  # pyright: ignore[reportPrivateUsage]
        return ticket

    def leave(self, conversation: ConversationKey, ticket: Ticket) -> None:
        lane = self._lanes[conversation]
        lane.remove(ticket)
        if lane:
            lane[0]._advance()  # pyright: ignore[reportPrivateUsage]
        else:
            del self._lanes[conversation]

    def stop(self, conversation: ConversationKey) -> int:
        """Ask everyone in the lane to end early. Returns how many there were."""
        lane = self._lanes.get(conversation, ())
        for ticket in lane:
            ticket.stop.set()
        return len(lane)

    def stop_user(self, user: UserKey) -> int:
        tickets = [ticket for lane in self._lanes.values() for ticket in lane if ticket.user == user]
        for ticket in tickets:
            ticket.stop.set()
        return len(tickets)

    def pending(self, user: UserKey) -> int:
        return sum(ticket.user == user for lane in self._lanes.values() for ticket in lane)
