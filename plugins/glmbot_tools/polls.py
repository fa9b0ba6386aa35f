"""Polls in the store: begun, voted in once by each person, counted and ended, by whichever process."""

from __future__ import annotations

import secrets
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from logging import Logger

from glmbot.bot import Bot
from glmbot.errors import BookFull
from glmbot.keys import ChatKey, UserKey
from glmbot.notes import Book, Note
from glmbot_tools.poll import Poll, WrongPoll, poll_of, poll_place, poll_read, vote_place

__all__ = ["Polls"]

_MOST_OF_PERSON, _MOST_IN_CHAT, _MOST_VOTES = 5, 20, 1000
_LASTS_S = 30 * 86400.0
_AT_ONCE = 500
_ID = 8


class Polls:
    def __init__(self, log: Logger, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock

    async def begin(
        self, bot: Bot, chat: ChatKey, maker: UserKey, question: str, options: Sequence[str]
    ) -> Poll:
        """Raises WrongPoll; StoreError."""
        poll_id = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_ID))
        poll = poll_of(poll_id, chat, maker, question, options, self._clock())
        book = bot.book("polls")
        await self._sweep(bot, await self._notes(book, chat))
        own = [note for note in await book.of(maker) if self._open(note)]
        here = await self._notes(book, chat)
        if len(own) >= _MOST_OF_PERSON or len(here) >= _MOST_IN_CHAT:
            raise WrongPoll("tools.poll.many")
        try:
            await book.put(Note(poll_place(chat, poll_id), poll.written(), str(maker)))
        except BookFull as error:
            raise WrongPoll("tools.poll.many") from error
        return poll

    async def find(self, bot: Bot, chat: ChatKey, poll_id: str) -> Poll | None:
        """Of this chat alone. Raises StoreError."""
        found = await self._find(bot, chat, poll_id)
        return None if found is None else found[0]

    async def vote(self, bot: Bot, chat: ChatKey, poll_id: str, voter: UserKey, option: int) -> Poll:
        """option: from 1; the last one of a person counts. Raises WrongPoll; StoreError."""
        poll = await self.find(bot, chat, poll_id)
        if poll is None:
            raise WrongPoll("tools.poll.unknown")
        if poll.counts is not None:
            raise WrongPoll("tools.poll.over")
        if not 1 <= option <= len(poll.options):
            raise WrongPoll("tools.poll.usage")
        book, place = bot.book("poll_votes"), vote_place(poll, voter)
        note = await book.get(place)
        if note is None and sum(await self._counted(bot, poll)) >= _MOST_VOTES:
            raise WrongPoll("tools.poll.full")
        try:
            # Who votes twice at the same moment has voted once, one way or the other.
            await book.put(Note(place, str(option), str(voter), 0 if note is None else note.version))
        except BookFull as error:
            raise WrongPoll("tools.poll.full") from error
        return poll

    async def counts(self, bot: Bot, poll: Poll) -> Sequence[int]:
        """By option. Raises StoreError."""
        return poll.counts if poll.counts is not None else await self._counted(bot, poll)

    async def end(self, bot: Bot, chat: ChatKey, poll_id: str, who: UserKey, *, admin: bool) -> Poll:
        """By its maker, or an administrator. Raises WrongPoll; StoreError."""
        found = await self._find(bot, chat, poll_id)
        if found is None:
            raise WrongPoll("tools.poll.unknown")
        poll, note = found
        if not admin and poll.maker != str(who):
            raise WrongPoll("tools.poll.not_yours")
        if poll.counts is not None:
            return poll
        # What is said now stands, whatever is on its way.
        ended = replace(poll, counts=tuple(await self._counted(bot, poll)))
        if await bot.book("polls").put(replace(note, text=ended.written())) is None:
            # Somebody else has ended it.
            return await self.find(bot, chat, poll_id) or ended
        return ended

    async def _find(self, bot: Bot, chat: ChatKey, poll_id: str) -> tuple[Poll, Note] | None:
        if len(poll_id) != _ID or not all(each in string.ascii_lowercase for each in poll_id):
            return None
        note = await bot.book("polls").get(poll_place(chat, poll_id))
        poll = None if note is None else self._read(note)
        return None if note is None or poll is None else (poll, note)

    async def _counted(self, bot: Bot, poll: Poll) -> Sequence[int]:
        book, votes, after = bot.book("poll_votes"), Counter[str](), poll.id
        while page := await book.page(after=after, upto=f"{poll.id} ~", limit=_AT_ONCE):
            votes.update(note.text for note in page)
            after = page[-1].name
        return [votes[str(number)] for number in range(1, len(poll.options) + 1)]

    async def _notes(self, book: Book, chat: ChatKey) -> Sequence[Note]:
        begin = poll_place(chat)
        return await book.page(after=begin, upto=f"{begin} ~", limit=_AT_ONCE)

    async def _sweep(self, bot: Bot, notes: Sequence[Note]) -> None:
        """Take out those of long ago, when somebody begins another."""
        for note in notes:
            poll = self._read(note)
            if poll is not None and self._clock() - poll.at < _LASTS_S:
                continue
            if await bot.book("polls").remove(note) and poll is not None:
                book = bot.book("poll_votes")
                while page := await book.page(after=poll.id, upto=f"{poll.id} ~", limit=_AT_ONCE):
                    for vote in page:
                        await book.remove(vote)

    def _open(self, note: Note) -> bool:
        poll = self._read(note)
        return poll is not None and poll.counts is None and self._clock() - poll.at < _LASTS_S

    def _read(self, note: Note) -> Poll | None:
        try:
            return poll_read(note.text)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._log.error("a poll is damaged, and left out")
            return None
