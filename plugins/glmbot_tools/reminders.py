"""Reminders that wait, over a book of notes: set, listed, cancelled, and said once, whatever crashes.

Every process looks for what is due. The one that marks a note as its own says it, writes down when it is due next,
and takes the note away; where it dies in between, another one takes over, and what the bot announces under the
same name is announced once. Only the clock of the wall counts, and it is looked at every few seconds: where it is
put forward, what was skipped is late; where it is put back, nothing is said twice, since its note is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from logging import Logger

from glmbot.bot import Bot
from glmbot.errors import BookFull, StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind
from glmbot.notes import Book, Note
from glmbot_tools.reminder import Reminder, due_until
from glmbot_tools.words import line

__all__ = ["Clock", "ReminderRefused", "Reminders", "utc_now"]

Clock = Callable[[], datetime]

_BOOK = "reminders"
_LOOKS_EVERY_S = 5.0
_AT_ONCE = 50
_PAGE = 100
# A process that has marked a note and not taken it away for so long is dead.
_CLAIM = timedelta(seconds=60)
_LATE = timedelta(minutes=2)
_MOST_TRIES = 5


class ReminderRefused(Exception):
    """Its words are for the model."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Reminders:
    def __init__(self, log: Logger, *, per_person: int, per_chat: int, clock: Clock = utc_now) -> None:
        self._log = log
        self._per_person = per_person
        self._per_chat = per_chat
        self._clock = clock

    async def add(self, bot: Bot, reminder: Reminder) -> None:
        """Raises ReminderRefused."""
        book = bot.book(_BOOK)
        own = await self.of(bot, reminder.user)
        if any(each.id == reminder.id for each in own):
            return
        if len(own) >= self._per_person:
            raise ReminderRefused(
                f"this person has {self._per_person} reminders; one has to be cancelled first"
            )
        if len(await self.in_chat(bot, reminder.conversation)) >= self._per_chat:
            raise ReminderRefused(f"this chat has {self._per_chat} reminders; one has to be cancelled first")
        try:
            note = await book.put(reminder.note())
        except BookFull as error:
            raise ReminderRefused("the bot keeps no more reminders now") from error
        # Several may have been set at once.
        if note is not None and len(await self.of(bot, reminder.user)) > self._per_person:
            await book.remove(note)
            raise ReminderRefused(
                f"this person has {self._per_person} reminders; one has to be cancelled first"
            )

    async def of(self, bot: Bot, user: UserKey) -> Sequence[Reminder]:
        """A person's, by when they are due."""
        return [each for _, each in self._read(await bot.book(_BOOK).of(user))]

    async def in_chat(self, bot: Bot, conversation: ConversationKey) -> Sequence[Reminder]:
        """All that wait in the chat of this conversation, whoever set them."""
        return [
            each
            for _, each in await self._all(bot.book(_BOOK))
            if _chat(each.conversation) == _chat(conversation)
        ]

    async def cancel(self, bot: Bot, reminder_id: str, may: Callable[[Reminder], bool]) -> Reminder | None:
        """Take away the one of this id that may be taken. Returns it, and None where there is none."""
        book = bot.book(_BOOK)
        for _ in range(_MOST_TRIES):
            found = [
                (note, each) for note, each in await self._all(book) if each.id == reminder_id and may(each)
            ]
            if not found:
                return None
            # A process may have marked it or moved it on meanwhile.
            if all([await book.remove(note) for note, _ in found]):
                return found[0][1]
        return None

    async def __call__(self, bot: Bot) -> None:
        """Say what is due, until this is cancelled."""
        while True:
            await self.say_due(bot)
            await asyncio.sleep(_LOOKS_EVERY_S)

    async def say_due(self, bot: Bot) -> None:
        """Raises StoreError."""
        book, now = bot.book(_BOOK), self._clock()
        after = ""
        while notes := await book.page(after=after, upto=due_until(now), limit=_AT_ONCE):
            for note, reminder in self._read(notes):
                if reminder.claimed is None or abs(now - reminder.claimed) > _CLAIM:
                    try:
                        await self._say(bot, book, note, reminder, now)
                    except StoreError:
                        raise
                    except Exception:
                        # Tried again once its mark is old; the others don't wait for it.
                        self._log.exception("the reminder %s can't be said now", reminder.id)
            after = notes[-1].name

    async def _say(self, bot: Bot, book: Book, note: Note, reminder: Reminder, now: datetime) -> None:
        mine = await book.put(replace(reminder, claimed=now).note(note.version))
        if mine is None:
            return
        if (await bot.settings(reminder.user)).get("access") == "blocked":
            await book.remove(mine)
            return
        late = "late_" if now - reminder.due > _LATE else ""
        what = "question" if reminder.asks else "reminder"
        # In private nobody asks whose it is.
        whose = "" if reminder.kind is ChatKind.PRIVATE else "_of"
        words = line(
            reminder.language,
            f"tools.{late}{what}{whose}",
            text=reminder.text,
            when=reminder.local,
            whose=reminder.whose,
        )
        name = f"{note.name} {reminder.user}"
        if not await bot.announce(reminder.conversation, words, name=name):
            self._log.warning("a reminder can't be said on %s any more", reminder.conversation.platform)
        elif reminder.asks:
            await bot.ask_in(
                reminder.conversation, reminder.user, reminder.text, name=name, kind=reminder.kind
            )
        following = reminder.following(now)
        moved = await self._put(book, following) if following is not None else None
        if not await book.remove(mine) and moved is not None:
            # Cancelled just now: then it does not go on either.
            await book.remove(moved)

    async def _put(self, book: Book, reminder: Reminder) -> Note | None:
        try:
            return await book.put(reminder.note())
        except BookFull:
            self._log.warning("a reminder that repeats ends, since there are too many")
            return None

    async def _all(self, book: Book) -> Sequence[tuple[Note, Reminder]]:
        found: list[tuple[Note, Reminder]] = []
        after = ""
        while notes := await book.page(after=after, limit=_PAGE):
            found += self._read(notes)
            after = notes[-1].name
        return found

    def _read(self, notes: Sequence[Note]) -> list[tuple[Note, Reminder]]:
        """What can't be read is of a later release, or broken: it is left alone."""
        found: list[tuple[Note, Reminder]] = []
        for note in notes:
            try:
                found.append((note, Reminder.read(note)))
            except ValueError as error:
                self._log.warning("the note %s is left alone: %s", note.name[:40], error)
        return found


def _chat(conversation: ConversationKey) -> tuple[str, str]:
    return conversation.platform, conversation.chat
