"""Notes of plug-ins and tools in Redis: those of a book under one hash tag, so that one script sees all of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from glmbot.errors import BookFull, MessageGone, StoreError
from glmbot.keys import UserKey
from glmbot.messages import Message
from glmbot.notes import MOST_NOTES, Note
from glmbot.store.notes import NOTES_AT_ONCE, StoredNote
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_keys import RedisKeys

__all__ = ["RedisNotes"]


class RedisNotes:
    def __init__(self, connection: RedisConnection, keys: RedisKeys) -> None:
        self._connection = connection
        self._redis = connection.client
        self._ask, self._each = connection.ask, connection.each
        self._keys = keys

    async def get(self, book: str, name: str) -> Note | None:
        held = await self._ask(self._redis.hget(self._keys.book(book, "notes"), name))
        return None if held is None else _note(name, held)

    async def put(self, book: str, note: Note, version: int, *, asked: Message | None = None) -> bool:
        if asked is not None:
            await self._check_open(asked)
        if note.text:
            await self._ask(self._redis.sadd(self._keys.named("books"), book))
        if note.text and note.user:
            # Before: a crash leaves at worst a name that leads to nothing.
            await self._ask(self._redis.sadd(self._keys.owner(note.user, "notes"), f"{book} {note.name}"))
        keys = [self._keys.book(book, "notes"), self._keys.book(book, "names")]
        given = (note.name, str(note.version), str(version), note.user, note.text, str(MOST_NOTES))
        done = int(await self._connection.run("note", keys, *given))
        if asked is not None:
            try:
                await self._check_open(asked)
            except MessageGone:
                await self._take_back(book, note, version, done == 1)
                raise
        if done == -1:
            raise BookFull(book)
        if done and note.user and not note.text:
            await self._ask(self._redis.srem(self._keys.owner(note.user, "notes"), f"{book} {note.name}"))
        return done == 1

    async def _check_open(self, message: Message) -> None:
        """Raises MessageGone."""
        inbox = self._keys.of(message.conversation, "inbox")
        if not await self._ask(self._redis.hexists(inbox, f"message {message.update_id}")):
            raise MessageGone(message.conversation)

    async def _take_back(self, book: str, note: Note, version: int, written: bool) -> None:
        """Messages stand in other slots than notes, and those of who is to be forgotten go first: a note that was
        written before that is found by whoever removes theirs, and one that was written after it is removed here.
        An older one that was only changed is found there in either case.
        """
        if written and not note.version:
            await self.put(book, Note(note.name, "", note.user, version), 0)
        elif note.user and await self.get(book, note.name) is None:
            await self._ask(self._redis.srem(self._keys.owner(note.user, "notes"), f"{book} {note.name}"))

    async def page(self, book: str, limit: int, after: str, upto: str) -> Sequence[Note]:
        names = await self._ask(
            self._redis.zrangebylex(
                self._keys.book(book, "names"),
                f"({after}" if after else "-",
                f"[{upto}" if upto else "+",
                start=0,
                num=limit,
            )
        )
        held = await self._ask(self._redis.hmget(self._keys.book(book, "notes"), names)) if names else []
        # One that was removed since is None.
        return [_note(name, each) for name, each in zip(names, held, strict=True) if each is not None]

    async def of(self, user: UserKey, of_book: str = "") -> Sequence[StoredNote]:
        found: list[StoredNote] = []
        for book, name in await self._places(user):
            # Each is asked for by itself, and of the log alone somebody may have thousands.
            note = await self.get(book, name) if of_book in ("", book) else None
            if note is not None and note.user == str(user):
                found.append(StoredNote(book, note))
        return found

    async def all(self) -> AsyncGenerator[StoredNote, None]:
        for book in sorted(await self._ask(self._redis.smembers(self._keys.named("books")))):
            after = ""
            while page := await self.page(book, NOTES_AT_ONCE, after, ""):
                for note in page:
                    yield StoredNote(book, note)
                after = page[-1].name

    async def forget(self, user: UserKey) -> None:
        for book, name in await self._places(user):
            while (note := await self.get(book, name)) is not None and note.user == str(user):
                if await self.put(book, Note(name, "", note.user, note.version), 0):
                    break
            await self._ask(self._redis.srem(self._keys.owner(user, "notes"), f"{book} {name}"))

    async def move(self, old: UserKey, new: UserKey) -> None:
        for book, name in await self._places(old):
            while (note := await self.get(book, name)) is not None and note.user == str(old):
                if await self.put(book, Note(name, note.text, str(new), note.version), note.version):
                    break
            await self._ask(self._redis.srem(self._keys.owner(old, "notes"), f"{book} {name}"))

    async def _places(self, user: UserKey) -> list[tuple[str, str]]:
        found = await self._ask(self._redis.smembers(self._keys.owner(user, "notes")))
        return [(book, name) for book, _, name in (each.partition(" ") for each in sorted(found))]


def _note(name: str, held: str) -> Note:
    """Raises StoreError."""
    head, _, text = held.partition("\n")
    version, _, user = head.partition(" ")
    try:
        return Note(name, text, user, int(version))
    except ValueError as error:
        raise StoreError(f"a note in the store is damaged: {error}") from error
