"""Encryption at rest: what people wrote and were answered is sealed before a store, a file or a journal sees it.

Fernet, that is AES-128-CBC with HMAC-SHA256 (https://github.com/fernet/spec). Several keys may be given, the
newest first: that one seals, all of them open. Who wrote, where and when stays readable.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from glmbot.errors import StoreError
from glmbot.keys import NOBODY, ChatKey, ConversationKey, UserKey
from glmbot.messages import ConversationSummary, Message, Unfinished
from glmbot.notes import Note
from glmbot.store.base import Store
from glmbot.store.notes import StoredNote
from glmbot.store.records import (
    Blob,
    Claim,
    DeadLetter,
    ExportedConversation,
    StoredAnswer,
    StoredBlob,
    StoredConversation,
    Turn,
)

__all__ = ["new_key", "sealed"]

_log = logging.getLogger(__name__)

_MARK = "sealed:"
# In front of a text that begins like a sealed one by itself, and was not sealed.
_PLAIN = f"{_MARK}plain:"
# A Fernet token: version 0x80, eight bytes of time that begin with zeros, and at least 64 bytes more, in base64.
_TOKEN = re.compile(r"gAAAAA[0-9A-Za-z_-]{92,}={0,2}")
# A text that is always the same, by which a store is known to be sealed, and by which key.
_WITNESS_OWNER = UserKey("glmbot", NOBODY)
_WITNESS = "sealed"
_WORDS: Mapping[type, Sequence[str]] = {
    Message: ("text", "quoted", "quoted_from", "user_name"),
    StoredAnswer: ("text", "notice", "thought"),
    Turn: ("question", "answer", "thought", "parts"),
    Blob: ("name",),
    Note: ("text",),
}
_Said = TypeVar("_Said", Message, StoredAnswer, Turn, Blob, Note)
# What a piece of a file begins with, in a store that was opened here.
_PLAIN_PIECE, _SEALED_PIECE = b"p", b"s"
_TAKE_MESSAGE = frozenset({"mark", "delivered", "set_aside", "replay", "drop"})


def new_key() -> str:
    return Fernet.generate_key().decode()


def sealed(store: Store, keys: Sequence[str]) -> Store:
    """The same store for its users. Without keys nothing is sealed, and a sealed store is refused when opened.

    Raises ValueError for what is no key.
    """
    return cast(Store, _SealedStore(store, keys))


class _SealedStore:
    """See `glmbot.store.base.Store`; what is not here holds no text of anybody's and is the inner store's."""

    def __init__(self, store: Store, keys: Sequence[str]) -> None:
        self._store = store
        try:
            ciphers = [Fernet(key) for key in keys]
        except ValueError as error:
            raise ValueError("a key is 32 bytes in URL-safe base64; `glmbot key` makes one") from error
        self._newest = ciphers[0] if ciphers else None
        self._all = MultiFernet(ciphers) if ciphers else None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _TAKE_MESSAGE:
            return method

        def with_sealed(message: Message, *rest: Any, **named: Any) -> Any:
            return method(_wordless(message), *rest, **named)

        return with_sealed

    async def open(self) -> None:
        """Raises StoreError when what is there was sealed with another key."""
        await self._store.open()
        witness = (await self._store.settings(_WITNESS_OWNER)).get(_WITNESS, "")
        if witness and self._all is None:
            raise StoreError(
                "what is stored is encrypted; set [store] encryption_key_file to the file of its key"
            )
        if witness:
            self._opened(witness)
        if self._newest is not None and not _opens(self._newest, witness):
            await self._store.set_setting(_WITNESS_OWNER, _WITNESS, self._seal(_WITNESS))

    async def accept(self, message: Message, at: float, *, announce: bool = True) -> bool:
        return await self._store.accept(_each(message, self._seal), at, announce=announce)

    async def join(self, message: Message, others: Sequence[Message]) -> None:
        await self._store.join(_each(message, self._seal), [_wordless(other) for other in others])

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        turn_answer: str | None = None,
        parts: str = "",
        **turn: Any,
    ) -> bool:
        return await self._store.finish(
            _wordless(message),
            _each(answer, self._seal),
            question=None if question is None else self._seal(question),
            turn_answer=None if turn_answer is None else self._seal(turn_answer),
            parts=self._seal(parts),
            **turn,
        )

    async def put(self, stored: StoredConversation) -> bool:
        turns = [_each(turn, self._seal) for turn in stored.turns]
        return await self._store.put(replace(stored, turns=turns))

    async def put_blob(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        pieces: AsyncIterable[bytes],
        *,
        update_id: str = "",
    ) -> None:
        meant = _each(blob, self._seal)
        await self._store.put_blob(
            conversation, user, meant, self._sealed_pieces(pieces), update_id=update_id
        )

    async def blob(self, conversation: ConversationKey, digest: str) -> Blob | None:
        found = await self._store.blob(conversation, digest)
        return None if found is None else _each(found, self._opened)

    async def blob_pieces(self, conversation: ConversationKey, digest: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._store.blob_pieces(conversation, digest)) as pieces:
            async for piece in pieces:
                yield await asyncio.to_thread(self._opened_piece, piece)

    async def blobs(self, user: UserKey | None = None) -> AsyncGenerator[StoredBlob, None]:
        async for stored in self._store.blobs(user):
            yield replace(stored, blob=_each(stored.blob, self._opened))

    async def answer(self, message: Message) -> StoredAnswer | None:
        found = await self._store.answer(_wordless(message))
        return None if found is None else _each(found, self._opened)

    async def unfinished(self, platform: str) -> Sequence[Unfinished]:
        return [self._opened_entry(entry) for entry in await self._store.unfinished(platform)]

    async def open_in(self, conversation: ConversationKey) -> Sequence[Unfinished]:
        return [self._opened_entry(entry) for entry in await self._store.open_in(conversation)]

    async def claim(self, conversation: ConversationKey, lasts_s: float) -> Claim:
        claim = await self._store.claim(conversation, lasts_s)
        return replace(claim, open=[self._opened_entry(entry) for entry in claim.open])

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return [
            replace(letter, message=_each(letter.message, self._opened))
            for letter in await self._store.dead_letters()
        ]

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        return self._opened_turns(await self._store.last_turns(conversation, limit, upto=upto))

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        turn = await self._store.turn_of(conversation, ref)
        return None if turn is None else _each(turn, self._opened)

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        return [
            replace(exported, turns=self._opened_turns(exported.turns))
            for exported in await self._store.export(user)
        ]

    async def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        async for page in self._store.export_pages(user):
            yield replace(page, turns=self._opened_turns(page.turns))

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        return [
            replace(summary, title=self._readable(str(user), summary.title))
            for summary in await self._store.conversation_summaries(user, limit, before)
        ]

    async def people(self, limit: int, after: str = "") -> Mapping[str, Mapping[str, str]]:
        found = dict(await self._store.people(limit, after))
        if str(_WITNESS_OWNER) in found:
            # Who has fewer on a page than they asked for takes it for the last one.
            found |= await self._store.people(1, max(found))
        return self._opened_settings(found)

    async def having(self, name: str, limit: int) -> Mapping[str, Mapping[str, str]]:
        return self._opened_settings(await self._store.having(name, limit))

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        async for stored in self._store.everything():
            yield replace(stored, turns=self._opened_turns(stored.turns))

    async def settings(self, owner: UserKey | ChatKey) -> Mapping[str, str]:
        return self._opened_values(await self._store.settings(owner))

    async def set_setting(self, owner: UserKey | ChatKey, name: str, value: str) -> None:
        await self._store.set_setting(owner, name, self._seal(value))

    async def all_settings(self) -> Mapping[str, Mapping[str, str]]:
        return self._opened_settings(await self._store.all_settings())

    async def note(self, book: str, name: str) -> Note | None:
        found = await self._store.note(book, name)
        return None if found is None else _each(found, self._opened)

    async def put_note(self, book: str, note: Note, version: int, *, asked: Message | None = None) -> bool:
        return await self._store.put_note(book, _each(note, self._seal), version, asked=asked)

    async def notes(self, book: str, limit: int, after: str = "", upto: str = "") -> Sequence[Note]:
        return [_each(note, self._opened) for note in await self._store.notes(book, limit, after, upto)]

    async def notes_of(self, user: UserKey, book: str = "") -> Sequence[StoredNote]:
        found = await self._store.notes_of(user, book)
        return [replace(each, note=_each(each.note, self._opened)) for each in found]

    async def all_notes(self) -> AsyncGenerator[StoredNote, None]:
        async for each in self._store.all_notes():
            yield replace(each, note=_each(each.note, self._opened))

    def _seal(self, text: str) -> str:
        if not text:
            return text
        if self._newest is None:
            return _PLAIN + text if text.startswith(_MARK) else text
        return _MARK + self._newest.encrypt(text.encode()).decode()

    async def _sealed_pieces(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        async for piece in pieces:
            if self._newest is None:
                yield _PLAIN_PIECE + piece
            else:
                yield _SEALED_PIECE + await asyncio.to_thread(self._newest.encrypt, piece)

    def _opened_piece(self, piece: bytes) -> bytes:
        """Raises StoreError for what only another key opens."""
        mark, content = piece[:1], piece[1:]
        if mark == _PLAIN_PIECE:
            return content
        try:
            if self._all is not None and mark == _SEALED_PIECE:
                return self._all.decrypt(content)
        except InvalidToken:
            pass
        raise StoreError(
            "a file is damaged, or only another key opens it; name that key too, below the newest"
        )

    def _opened(self, text: str) -> str:
        """Raises StoreError for what only another key opens. Whatever else begins like a sealed text is what
        somebody wrote, before there was a key or a mark for that."""
        if text.startswith(_PLAIN):
            return text.removeprefix(_PLAIN)
        if self._all is None or not _TOKEN.fullmatch(text.removeprefix(_MARK)) or not text.startswith(_MARK):
            return text
        try:
            return self._all.decrypt(text.removeprefix(_MARK)).decode()
        except InvalidToken as error:
            raise StoreError(
                "what is stored was encrypted with another key; name that key too, below the newest"
            ) from error

    def _opened_settings(self, found: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
        """Of many: what can't be opened is left out, so that one of them is not the end of the list."""
        return {
            owner: {name: text for name, value in values.items() if (text := self._readable(owner, value))}
            for owner, values in found.items()
            if owner != str(_WITNESS_OWNER)
        }

    def _readable(self, owner: str, value: str) -> str:
        try:
            return self._opened(value)
        except StoreError as error:
            _log.error("a setting of %s is left out: %s", owner, error)
            return ""

    def _opened_values(self, settings: Mapping[str, str]) -> Mapping[str, str]:
        return {name: self._opened(value) for name, value in settings.items()}

    def _opened_entry(self, entry: Unfinished) -> Unfinished:
        return replace(entry, message=_each(entry.message, self._opened))

    def _opened_turns(self, turns: Sequence[Turn]) -> list[Turn]:
        return [_each(turn, self._opened) for turn in turns]


def _each(said: _Said, change: Callable[[str], str]) -> _Said:
    """The same with each of its words changed."""
    return replace(said, **{name: change(getattr(said, name)) for name in _WORDS[type(said)]})


def _wordless(message: Message) -> Message:
    """To say which message is meant: its words were sealed when it was accepted, and are not needed again."""
    return _each(message, lambda _: "")


def _opens(cipher: Fernet, text: str) -> bool:
    try:
        cipher.decrypt(text.removeprefix(_MARK))
    except InvalidToken:
        return False
    return True
