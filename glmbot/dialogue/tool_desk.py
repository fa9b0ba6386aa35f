"""What the dialogue has for tools, in one hand: which there are, who may have them called, who was asked, and the
log. One for all answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from glmbot.bot import Bot, ToolHere
from glmbot.dialogue.housekeeping import SteadyClock
from glmbot.dialogue.outbox import announcement
from glmbot.dialogue.people import People, Standing
from glmbot.dialogue.settings import InForce
from glmbot.dialogue.tool_asks import ASKS, Ask, Asks
from glmbot.dialogue.tool_journal import CALLS, Journal
from glmbot.dialogue.tool_log import ToolLog
from glmbot.dialogue.tool_rights import Right, here, right_of
from glmbot.dialogue.tool_sampling import Sampling
from glmbot.dialogue.tool_words import title_of
from glmbot.dialogue.toolset import Offered, Offering, Toolset
from glmbot.dialogue.typed import Typed
from glmbot.engine.base import Ability, Engine
from glmbot.i18n import choose_language
from glmbot.keys import kind_of
from glmbot.messages import Message
from glmbot.notes import Book
from glmbot.plugins import Plugins
from glmbot.store.base import Messages, Notes
from glmbot.store.notes import NOTES_AT_ONCE, book_in
from glmbot.tools import Offer

__all__ = ["ToolDesk", "swept"]


# Longer than a message is tried for.
_KEPT_S = 7 * 86400.0
_SWEPT_EVERY_S = 3600.0


class _Kept(Messages, Notes, Protocol):
    """Calls, asks, the log; and where what somebody is asked is put."""


class ToolDesk:
    def __init__(
        self,
        plugins: Plugins,
        store: _Kept,
        people: People,
        in_force: InForce,
        clock: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """tell: the other processes."""
        self.toolset = Toolset(plugins)
        self.asks = Asks(store, clock, tell)
        self.typed = Typed()
        self.log = ToolLog(store, clock)
        self.bot: Callable[[Message], Bot]
        self.sampling: Sampling
        self.journal = partial(Journal.of, store, clock=clock)
        self._store = store
        self._people = people
        self._in_force = in_force
        self._clock = clock
        self._steady = SteadyClock(clock)

    def serve(self, bot: Callable[[Message], Bot], sampling: Sampling) -> None:
        """What tools are handed, which is made after this. bot: by the message that they answer."""
        self.bot, self.sampling = bot, sampling

    async def run(self) -> None:
        """Take out what nobody comes back for, until cancelled. Several processes may, without harm."""
        while True:
            for name, field in ((CALLS, "at"), (ASKS, "until")):
                await swept(book_in(self._store, name), field, self._steady.now() - _KEPT_S)
            await asyncio.sleep(_SWEPT_EVERY_S)

    def offered(self, message: Message, standing: Standing, engine: Engine) -> Offering:
        """The tools that this model is told of for this person here."""
        if not self.tells(engine):
            return Offering()
        found = {
            name: each
            for name, each in self.toolset.now().items()
            if self.right(message, standing, each) is not Right.NEVER
        }
        return Offering.of(found)

    async def offer(self, message: Message, engine: Engine) -> Offer:
        """As `offered`. Raises StoreError."""
        return self.offered(message, await self._people.standing(message), engine).offer

    async def here(self, message: Message) -> Sequence[ToolHere]:
        """Raises StoreError."""
        standing = await self._people.standing(message)
        language = standing.user.get("language", "") or message.language
        return [
            ToolHere(
                name,
                title_of(each.tool, choose_language(language)),
                each.plugin,
                str(self.right(message, standing, each)),
                str(each.tool.nature),
            )
            for name, each in self.toolset.now().items()
        ]

    def tells(self, engine: Engine) -> bool:
        told = self._in_force.settings.tools.told
        wanted = {"taught": Ability.TAUGHT_TOOLS, "all": Ability.TOOLS}.get(told)
        return wanted is not None and Ability.TOOLS in engine.abilities and wanted in engine.abilities

    def right(self, message: Message, standing: Standing, offered: Offered) -> Right:
        return right_of(
            offered,
            standing.role,
            self._in_force.settings.tools.rights,
            person=standing.user,
            chat=standing.chat,
            who=str(message.user),
            where=here(message),
        )

    def obey(self, words: str) -> None:
        """What another process told."""
        verb, _, ask = words.partition(" ")
        if verb == "asked":
            self.asks.heard(ask)

    async def right_now(self, message: Message, offered: Offered) -> Right:
        """By what is decided at this moment. Raises StoreError."""
        return self.right(message, await self._people.standing(message), offered)

    async def say_of(self, message: Message, ask: Ask, words: str) -> None:
        """Where a growing answer is not seen, in a message of its own. Raises StoreError."""
        if kind_of(message.conversation.platform) in self._in_force.settings.unedited:
            told = announcement(message.conversation, words, f"ask {ask.id}")
            await self._store.accept(told, self._clock())


async def swept(book: Book, field: str, before: float) -> int:
    """Remove the notes whose JSON has an older time there, and those that can't be read. Returns how many went."""
    after, gone = "", 0
    while page := await book.page(after=after, limit=NOTES_AT_ONCE):
        for note in page:
            try:
                old = float(json.loads(note.text)[field]) < before
            except (ValueError, TypeError, KeyError, OverflowError):
                old = True
            if old and await book.remove(note):
                gone += 1
        after = page[-1].name
    return gone
