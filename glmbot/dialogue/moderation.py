"""What may not be asked or said here: all moderators together, the bot's own and those of plug-ins.

One that raises, says nonsense or takes too long refuses the text, unless it is set to let such a text pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from glmbot.host import Direction, Finding, Passage, Watch
from glmbot.in_time import in_time
from glmbot.messages import Message
from glmbot.registered import StartedModerator

__all__ = ["Moderation", "Watches"]


class Moderation:
    """Moderators are asked one after the other; the first that refuses a text spares the others."""

    def __init__(self, moderators: Sequence[StartedModerator] = ()) -> None:
        self._moderators = [_Guarded(each) for each in moderators]
        self._watched = [each for each in moderators if each.moderator.watch is not None]

    @property
    def holds_answers(self) -> bool:
        """An answer is shown when it is complete and was allowed: somebody can't look at one that grows."""
        return len(self._watched) < len(self._moderators)

    @property
    def watches(self) -> bool:
        """Whether somebody looks at texts that grow."""
        return bool(self._watched)

    def watch(self) -> Watches:
        """For one text that grows."""
        return Watches(self._watched)

    def finds(self, text: str) -> bool:
        """Whether those who look at texts that grow find something in this whole one. The others are not asked."""
        return self.watch().look(text) is not Finding.NOTHING

    async def allows_in(self, message: Message, direction: Direction, text: str) -> bool:
        """Of what belongs to this message."""
        return await self.allows(
            direction, text, user=str(message.user), conversation=str(message.conversation)
        )

    async def allows(self, direction: Direction, text: str, *, user: str, conversation: str) -> bool:
        """`text` is all that is to be looked at: each moderator is asked once."""
        if not text.strip():
            return True
        passage = Passage(direction, text, user, conversation)
        for each in self._moderators:
            if not await each.allows(passage):
                return False
        return True


class Watches:
    """A text that grows, as all see it who can look at one: the worst that any of them finds in it."""

    def __init__(self, moderators: Sequence[StartedModerator]) -> None:
        self._watches = [_GuardedWatch(each) for each in moderators]

    def look(self, text: str) -> Finding:
        """`text` is all of it so far."""
        found = {each.look(text) for each in self._watches}
        worst_first = (Finding.WORD, Finding.PERHAPS)
        return next((each for each in worst_first if each in found), Finding.NOTHING)


class _Guarded:
    """A moderator whose faults refuse a text, or let it pass, as it is set to."""

    def __init__(self, started: StartedModerator) -> None:
        self._started = started
        # The time of who waits counts from their turn on.
        self._free = asyncio.Semaphore(started.moderator.at_once)

    async def allows(self, passage: Passage) -> bool:
        moderator = self._started.moderator
        try:
            async with self._free:
                allowed: object = await in_time(lambda: moderator.allows(passage), moderator.timeout_s)
            if not isinstance(allowed, bool):
                raise TypeError(f"it returned {type(allowed).__name__}, and neither True nor False")
        except Exception as error:
            _complain(self._started, error)
            return not moderator.refuse_on_failure
        return allowed


class _GuardedWatch:
    """After a fault it is not looked at again: a text that should be refused then is shown no further."""

    def __init__(self, started: StartedModerator) -> None:
        self._started = started
        self._watch: Watch | None = None
        self._failed = False

    def look(self, text: str) -> Finding:
        moderator = self._started.moderator
        try:
            if not self._failed and moderator.watch is not None:
                self._watch = self._watch or moderator.watch()
                finding = cast(object, self._watch.look(text))
                if not isinstance(finding, Finding):
                    raise TypeError(f"its watch found {type(finding).__name__}, and no Finding")
                return finding
        except (Exception, SystemExit) as error:
            self._failed = True
            _complain(self._started, error)
        return Finding.PERHAPS if moderator.refuse_on_failure else Finding.NOTHING


def _complain(started: StartedModerator, error: BaseException) -> None:
    if isinstance(error, TimeoutError):
        started.log.error("the moderator %s took too long", started.name)
        return
    started.log.error("the moderator %s failed: %s: %s", started.name, type(error).__name__, error)
    started.log.debug("the moderator %s", started.name, exc_info=error)
