"""Which messages this process answers: claimed by conversation, kept by a heartbeat, taken over from the dead.

Whoever has a conversation answers everything in it, in the order of arrival; so that order holds over any number
of processes, and only one of them writes to a chat. A message that fails is tried again, ever more patiently, and
set aside after the last try. What is one act of a person (acts.py) is given out as one message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from glmbot.background import Background, Troubles, keep_going
from glmbot.dialogue import acts
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.complaints import DamagedConversations, StoreComplaint
from glmbot.dialogue.held import TRIES, Acts, Ending, Held, amended, completed, joined
from glmbot.errors import ClaimLost, StoreError, StoreUnavailable, Superseded
from glmbot.keys import ConversationKey
from glmbot.locks import Locks
from glmbot.messages import Message, Unfinished
from glmbot.store.base import Claims, Coordination, DeadLetters

__all__ = ["Inbox", "pause_before"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_LONGEST_WAIT_S = 2.0


def pause_before(attempt: int) -> float:
    """Seconds to wait before the attempt of that number (the first is 1).

    Two come at once: a crash is mostly not the message's fault.
    """
    return 0.0 if attempt <= 2 else min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempt - 3))


class _Kept(Acts, Claims, Coordination, DeadLetters, Protocol):
    """What waits, who answers it, and what is not tried any more."""


class Inbox:
    def __init__(
        self,
        store: _Kept,
        clock: Callable[[], float],
        *,
        claim_s: float = 20.0,
        tries: int = 5,
        on_lost: Callable[[ConversationKey], None] = lambda _: None,
        on_signal: Callable[[str], None] = lambda _: None,
        on_superseded: Callable[[Message], None] = lambda _: None,
        troubles: Troubles | None = None,
        commands: Commands | None = None,
    ) -> None:
        """claim_s: how long a claim outlives its process. tries: attempts before a message is set aside.

        on_lost is told of a conversation that another process may have taken: nothing more may be written there;
        on_superseded of a message in progress that says something else by now: its answer ends without a record.
        In troubles stands what keeps messages from being given out.
        """
        self._store = store
        self._clock = clock
        self._claim_s = claim_s
        self._tries = tries
        self._on_lost = on_lost
        self._on_signal = on_signal
        self._on_superseded = on_superseded
        self._troubles = troubles or Troubles()
        self._commands = commands or Commands({})
        self._held: dict[ConversationKey, Held] = {}
        self._ending = Ending()
        self._damaged = DamagedConversations(self._troubles)
        self._locks = Locks[ConversationKey]()
        self._queues: dict[str, asyncio.Queue[Unfinished]] = defaultdict(asyncio.Queue)
        self._platforms: set[str] = set()
        self._leases: set[str] = set()
        self._looks = Background()
        self._complaint = StoreComplaint()
        self._closing = False

    @property
    def held(self) -> Counter[str]:
        """By platform."""
        none = dict.fromkeys(sorted(self._platforms), 0)
        return Counter(none | Counter(each.platform for each in self._held))

    async def run(self) -> None:
        """Keep claims and leases, and hear what other processes say, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, work in (("claims", self._beat), ("signals", self._listen)):
                group.create_task(keep_going(name, work, self._troubles, lambda: self._closing))

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        """Record a message. `here`: this process alone can show its answer. Raises StoreError."""
        new = await self._store.accept(message, self._clock(), announce=not here)
        if new and here:
            self._later(message.conversation, 0)
        return new

    async def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        """What this process has to answer, in each conversation in the order of arrival, for ever.

        A new generator begins with everything that was given out and not delivered.
        """
        self._platforms.add(platform)
        queue = self._queues[platform] = asyncio.Queue()
        for conversation, held in list(self._held.items()):
            if conversation.platform == platform:
                held.given.clear()
                held.superseded.clear()
        self._ending.forget(platform)
        stopped = asyncio.Event()
        feeding = asyncio.create_task(
            keep_going(
                f"{platform}: what is to be answered",
                lambda: self._feed(platform, stopped),
                self._troubles,
                stopped.is_set,
            )
        )
        try:
            while True:
                yield await queue.get()
        finally:
            self._platforms.discard(platform)
            # A client that is reading may swallow the cancellation; then the next look at this ends it.
            stopped.set()
            feeding.cancel()
            await asyncio.wait({feeding})

    async def count_try(self, message: Message) -> None:
        """Its turn has come: count the try, so that a message that kills the process is not tried for ever.

        Raises StoreError, and Superseded.
        """
        held = self._held.get(message.conversation)
        if held is None or message.update_id not in held.given or message.update_id in held.begun:
            return
        if message.update_id in held.superseded:
            raise Superseded(message.conversation)
        held.begun.add(message.update_id)
        tries = held.given[message.update_id] + 1
        await self._store.mark(message, {TRIES: str(tries)})
        held.given[message.update_id] = tries

    async def delivered(self, message: Message, shown: Sequence[str]) -> None:
        """Where the store can't take it now, it is told again until it can. Raises ClaimLost."""
        try:
            await self._delivered(message, shown)
        except ClaimLost:
            raise
        except StoreError as error:
            self._complaint.make(error)
            self._looks.begin(self._delivered_later(message, shown))

    async def _delivered_later(self, message: Message, shown: Sequence[str]) -> None:
        pause = _FIRST_PAUSE_S
        while not self._closing:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            try:
                await self._delivered(message, shown)
                return
            except ClaimLost:
                return
            except StoreError as error:
                self._complaint.make(error)

    async def _delivered(self, message: Message, shown: Sequence[str]) -> None:
        """Raises StoreError."""
        async with self._locks.of(message.conversation):
            try:
                if not self._is_superseded(message):
                    await self._store.delivered(message, shown)
            except ClaimLost:
                self.lose(message.conversation)
                raise
            finally:
                self._ended(message)
            self._let_go(message)
            try:
                await self._take(message.conversation)
            except StoreError as error:
                self._complaint.make(error)
                self._later(message.conversation, _FIRST_PAUSE_S)

    async def again(self, message: Message, reason: str = "") -> bool:
        """It could not be answered to the end this time. Without a `reason` that is nobody's fault.

        True when it is not tried any more.
        """
        if not reason and (counted := self._ending.tries(message)):
            # A claim that was lost is no failed try; another process that has it counts its own.
            await self._uncount(message, counted)
        self._ended(message)
        # With the lock: whoever is just giving out what the store said before this must find it given still.
        async with self._locks.of(message.conversation):
            held = self._held.get(message.conversation)
            if self._closing or held is None or message.update_id not in held.given:
                return False
            return await self._given_back(message, held, reason)

    async def _given_back(self, message: Message, held: Held, reason: str) -> bool:
        """See `again`. Call with the conversation's lock."""
        if reason and message.update_id not in held.begun:
            # It failed before its turn came, which must not go on for ever either.
            with suppress(StoreError):
                await self.count_try(message)
        tries, pause = held.given[message.update_id], _FIRST_PAUSE_S
        superseded = self._is_superseded(message)
        if superseded:
            pause = 0
        elif reason and tries >= self._tries:
            with suppress(StoreError):
                await self._store.set_aside(message, reason, self._clock())
                self._let_go(message)
                await self._take(message.conversation)
                _log.error("a message in %s is set aside: %s", message.conversation, reason)
                return True
        if (superseded or not reason) and message.update_id in held.begun:
            await self._uncount(message, tries)
        self._let_go(message)
        self._later(message.conversation, pause)
        return False

    def check(self, message: Message) -> None:
        """Raises ClaimLost when another process answers the conversation, or may by now: this one could not renew
        its claim in time, or stood still for so long. Raises Superseded."""
        held = self._held.get(message.conversation)
        if self._is_superseded(message):
            raise Superseded(message.conversation)
        late = held is not None and asyncio.get_running_loop().time() - held.renewed_at > self._claim_s
        if late:
            # With what waits behind this: once it is renewed after all, that would be answered sooner.
            self.lose(message.conversation)
        if late or self._ending.tries(message) is not None:
            raise ClaimLost(message.conversation)

    def lose(self, conversation: ConversationKey) -> None:
        """Another process may have it. It is not claimed again before all that was given out of it has ended."""
        held = self._held.pop(conversation, None)
        if held is not None:
            self._ending.add(conversation, held)
        self._on_lost(conversation)

    async def leads(self, name: str) -> bool:
        """Whether this process may do what only one may do at a time. Raises StoreError."""
        holder = await self._store.lease(name, self._claim_s)
        if holder != self._store.owner:
            self._leases.discard(name)
            return False
        self._leases.add(name)
        return True

    async def signal(self, words: str) -> None:
        """Tell the other processes; they act on it in their own time."""
        with suppress(StoreError):
            await self._store.signal(words)

    async def close(self) -> None:
        """Leave what is unfinished to other processes, or to the next start."""
        self._closing = True
        await self._looks.drain(0)
        with suppress(StoreError):
            for name in self._leases:
                await self._store.end_lease(name)
            for conversation, held in self._held.items():
                for entry in (await self._store.claim(conversation, self._claim_s)).open:
                    update_id = entry.message.update_id
                    if update_id in held.begun:
                        # A stop in good order is no failed try.
                        await self._uncount(entry.message, held.given[update_id])
                await self._store.release(conversation)
        self._held.clear()

    # ---- what keeps claims ------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while not self._closing:
            await asyncio.sleep(self._claim_s / 4)
            try:
                for name in list(self._leases):
                    if not await self.leads(name):
                        _log.warning("another process does %s by now", name)
                await self._store.keep()
                for conversation in list(self._held):
                    if conversation.platform in self._platforms:
                        await self._look_or_tell(conversation)
            except StoreError as error:
                self._complaint.make(error)
                now = asyncio.get_running_loop().time()
                for conversation, held in list(self._held.items()):
                    if isinstance(error, StoreUnavailable) and now - held.renewed_at > self._claim_s:
                        self.lose(conversation)
            else:
                if not self._damaged:
                    self._complaint.withdraw()

    async def _listen(self) -> None:
        while not self._closing:
            try:
                signals = await self._store.signals(_LONGEST_WAIT_S)
            except StoreError as error:
                self._complaint.make(error)
                await asyncio.sleep(_FIRST_PAUSE_S)
                continue
            for words in signals:
                try:
                    self._obey(words)
                except ValueError as error:
                    # Of a process of another release, or of somebody else on the same server.
                    _log.warning("a signal that can't be read is left out: %s", error)

    def _obey(self, words: str) -> None:
        """Raises ValueError for words that are none of ours."""
        verb, _, rest = words.partition(" ")
        owner, _, name = rest.partition(" ")
        if verb != "look":
            self._on_signal(words)
        elif owner == self._store.owner:
            self._later(ConversationKey.parse(name), 0)

    async def _feed(self, platform: str, stopped: asyncio.Event) -> None:
        """Take what is announced, and now and then look at everything that is open."""
        loop = asyncio.get_running_loop()
        look_around_at = loop.time()
        while not stopped.is_set():
            try:
                if loop.time() >= look_around_at:
                    found = await self._store.open_conversations(platform)
                    look_around_at = loop.time() + self._claim_s / 2
                    self._damaged.keep_only(platform, found)
                else:
                    found = await self._store.waiting(platform, min(_LONGEST_WAIT_S, self._claim_s / 4))
                for conversation in found:
                    await self._look_or_tell(conversation)
            except StoreError as error:
                self._complaint.make(error)
                look_around_at = loop.time()
                await asyncio.sleep(_FIRST_PAUSE_S)

    def _later(self, conversation: ConversationKey, pause_s: float) -> None:
        async def look() -> None:
            await asyncio.sleep(pause_s)
            while not self._closing:
                try:
                    await self._look_or_tell(conversation)
                    return
                except StoreError as error:
                    self._complaint.make(error)
                    await asyncio.sleep(_FIRST_PAUSE_S)

        self._looks.begin(look())

    # ---- one conversation -------------------------------------------------------------------------------------

    async def _look_or_tell(self, conversation: ConversationKey) -> None:
        """One conversation that can't be looked at keeps no other from being answered. Raises StoreUnavailable."""
        try:
            await self._look(conversation)
        except StoreUnavailable:
            raise
        except Exception as error:
            self._damaged.add(conversation, error)
        else:
            self._damaged.mended(conversation)

    async def _look(self, conversation: ConversationKey) -> None:
        async with self._locks.of(conversation):
            await self._take(conversation)

    async def _take(self, conversation: ConversationKey) -> None:
        """Claim the conversation and give out what is new in it. Call with its lock. Raises StoreError."""
        if conversation in self._ending:
            return
        now = asyncio.get_running_loop().time()
        claim = await self._store.claim(conversation, self._claim_s)
        if conversation in self._ending:
            # Lost meanwhile.
            return
        if claim.owner != self._store.owner:
            await self._store.leave_to(conversation, claim.owner)
            if conversation in self._held:
                self.lose(conversation)
            return
        if not claim.open:
            self._held.pop(conversation, None)
            return
        held = self._held.setdefault(conversation, Held())
        held.renewed_at = now
        groups = acts.grouped(await completed(self._store, self._commands, held, claim.open), self._commands)
        for act in groups:
            if act[0].message.update_id in held.given:
                said = [each.message for each in act]
                if await amended(self._store, self._commands, held, said):
                    self._on_superseded(said[0])
        for act in groups:
            entry, update_id = act[0], act[0].message.update_id
            if update_id in held.given:
                continue
            if now < held.rests_until:
                # What comes after a message that rests waits too, or the order would be lost.
                return
            if wait := held.gathering.wait_for([each.message for each in act], now):
                self._later(conversation, wait)
                return
            tries = int(entry.marks.get(TRIES, "0"))
            if tries >= self._tries:
                reason = f"the process ended {tries} times while this was being answered"
                await self._store.set_aside(entry.message, reason, self._clock())
                _log.error("a message in %s is set aside: %s", conversation, reason)
                continue
            pause = pause_before(tries + 1)
            if pause and update_id not in held.rested:
                held.rested.add(update_id)
                held.rests_until = now + pause
                self._later(conversation, pause)
                return
            message = await joined(self._store, held, act)
            if self._held.get(conversation) is not held:
                return
            held.given[update_id] = tries
            self._queues[conversation.platform].put_nowait(Unfinished(message, entry.marks))

    def _is_superseded(self, message: Message) -> bool:
        held = self._held.get(message.conversation)
        return held is not None and message.update_id in held.superseded

    def _let_go(self, message: Message) -> None:
        if (held := self._held.get(message.conversation)) is not None:
            held.given.pop(message.update_id, None)
            held.begun.discard(message.update_id)
            held.rested.discard(message.update_id)

    def _ended(self, message: Message) -> None:
        """Nothing is written any more for a message that was given out."""
        if self._ending.ended(message):
            self._later(message.conversation, 0)

    async def _uncount(self, message: Message, tries: int) -> None:
        with suppress(StoreError):
            await self._store.mark(message, {TRIES: str(max(0, tries - 1))})
