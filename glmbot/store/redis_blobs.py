"""Files in Redis: references beside their conversation, contents under their digests. What stands where: see
redis_keys.py.

Between servers of a cluster nothing is atomic, so each script looks at one key's server alone, and a process
may stand still between any two of them. A reference counts while it is noted at its content; the person and the
conversation have it by the same token. To put one is to list the content, to place it with the reference, to
note it for the person and for the conversation, and to look whether it still counts. To remove one is to write
that down, to take it from the content, then from the others where they have that very token. So what was put
anew meanwhile stays whole; and `tidy` ends what a crash left, by the list of all contents and by what was to be
removed.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from glmbot.content import is_digest
from glmbot.errors import BlobRefused, StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.blobs import ACCEPTED_WITHIN_S, MOST_OF_A_PERSON, BlobLimits
from glmbot.store.message_json import kept_json
from glmbot.store.records import Blob, StoredBlob
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_histories import RedisHistories, conversation_of, number_of
from glmbot.store.redis_keys import RedisKeys

__all__ = ["RedisBlobs"]

_log = logging.getLogger(__name__)

# What is written has its place within that time, or goes; and what a crash left is taken for that after it.
_WRITTEN_WITHIN_S = 3600
_SETTLED_AFTER_S = 3600.0
_AT_ONCE = 100
_SWEPT_AT_ONCE = 20
_SWEPT_EVERY_S = 3600.0
_NOT_DECODED = {"NEVER_DECODE": True}
_REFERENCES = ("blobs", "blob_people")


class RedisBlobs:
    """`limits`: `everybody` bounds what Redis holds of contents."""

    def __init__(
        self, connection: RedisConnection, keys: RedisKeys, histories: RedisHistories, limits: BlobLimits
    ) -> None:
        self._connection = connection
        self._redis = connection.client
        self._ask, self._each, self._script = connection.ask, connection.each, connection.run
        self._keys = keys
        self._histories = histories
        self._limits = limits
        self._cursor = 0
        self._swept_at: float | None = None

    async def put(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        pieces: AsyncIterable[bytes],
        update_id: str,
    ) -> None:
        self._limits.refuse_large(blob)
        # Nothing large is written that would be refused.
        if not await self._list(blob.digest, blob.size, look=True):
            raise self._limits.refused("store_full", user)
        if not await self._note_person(conversation, user, blob, ""):
            raise self._limits.refused("person_full", user)
        token, created = await self._place(conversation, user, blob, pieces)
        try:
            if not await self._note_person(conversation, user, blob, token):
                raise self._limits.refused("person_full", user)
            if not await self._refer(conversation, user, blob, token, update_id):
                raise StoreUnavailable(f"{self._connection.name}: a file was removed while it was put")
        except (BlobRefused, StoreError):
            if created:
                await self._remove(conversation, str(user), blob.digest, token)
            raise

    async def _place(
        self, conversation: ConversationKey, user: UserKey, blob: Blob, pieces: AsyncIterable[bytes]
    ) -> tuple[str, bool]:
        """The content, and that it is referred to. Returns the reference's token, and whether it is new."""
        new = self._keys.content(blob.digest, f"new:{secrets.token_hex(8)}")
        count, size = await self._write(new, pieces)
        try:
            if not await self._list(blob.digest, size):
                raise self._limits.refused("store_full", user)
            keys = [new, *(self._keys.content(blob.digest, part) for part in ("pieces", "refs"))]
            given = (str(count), f"{conversation} {user}", repr(time.time()), secrets.token_hex(8))
            token: str = await self._script("blob_place", keys, *given)
        finally:
            with suppress(StoreError):
                await self._ask(self._redis.unlink(new))
        if not token:
            raise StoreUnavailable(f"{self._connection.name}: a file was not written in time")
        # Whoever removed the last reference before may be about to take it off the list.
        await self._list(blob.digest, size)
        return token.removeprefix("="), not token.startswith("=")

    async def _write(self, new: str, pieces: AsyncIterable[bytes]) -> tuple[int, int]:
        """Returns how many pieces and bytes."""
        count = size = 0
        async for piece in pieces:
            count, size = count + 1, size + len(piece)
            self._limits.refuse_longer(size)
            await self._ask(self._redis.rpush(new, piece))
            if count == 1:
                await self._ask(self._redis.expire(new, _WRITTEN_WITHIN_S))
        return count, size

    async def _list(self, digest: str, size: int, *, look: bool = False) -> bool:
        """Among all contents, with a mark that is new. False when there is no room. look: change nothing."""
        mark = f"{time.time_ns() // 1_000_000} {secrets.token_hex(4)}"
        keys = [self._keys.contents("sizes"), self._keys.contents("total")]
        given = (digest, str(size), str(self._limits.everybody), mark, "look" if look else "")
        return bool(await self._script("blob_list", keys, *given))

    async def _note_person(
        self, conversation: ConversationKey, user: UserKey, blob: Blob, token: str, *, free: bool = False
    ) -> bool:
        """False when they have no room. Without a token nothing is changed. free: without a limit."""
        limits = ("", "") if free else (str(self._limits.person), str(MOST_OF_A_PERSON))
        given = (f"{blob.digest} {conversation}", str(blob.size), *limits, token)
        return bool(await self._script("blob_person", [self._keys.owner(user, "blobs")], *given))

    async def _refer(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        token: str,
        update_id: str,
        state: str = "",
    ) -> bool:
        """The conversation has it from now on. False, and it has not, when the reference was removed meanwhile, or
        anything was there after `state`."""
        chats = self._keys.named(f"blob_chats:{conversation.platform}")
        await self._ask(self._redis.sadd(chats, str(conversation)))
        said = {"media_type": blob.media_type, "name": blob.name, "size": blob.size, "at": blob.at}
        body = f"{token} {json.dumps({**said, 'update_id': update_id}, ensure_ascii=False)}"
        keys = self._keys.all_of(conversation, (*_REFERENCES, "meta"))
        if not await self._script("blob_refer", keys, blob.digest, str(user), body, state):
            return False
        await self._ask(self._redis.sadd(chats, str(conversation)))
        if await self._counts(conversation, str(user), blob.digest, token):
            return True
        await self._remove(conversation, str(user), blob.digest, token)
        return False

    async def _counts(self, place: ConversationKey | str, person: str, digest: str, token: str) -> bool:
        noted = await self._ask(self._redis.hget(self._keys.content(digest, "refs"), f"{place} {person}"))
        return _token(noted) == token

    async def _remove(self, place: ConversationKey | str, person: str, digest: str, token: str) -> None:
        """One reference, and the content with the last one."""
        words = f"{digest} {place} {person} {token}"
        await self._ask(self._redis.sadd(self._keys.named("blob_removing"), words))
        await self._drop(digest, f"{place} {person}", token)
        keys = self._keys.all_of(place, _REFERENCES)
        if await self._script("blob_unrefer", keys, digest, person, token) == 2:
            platform = str(place).partition(":")[0]
            await self._ask(self._redis.srem(self._keys.named(f"blob_chats:{platform}"), str(place)))
        await self._script("blob_disown", [self._keys.owner(person, "blobs")], f"{digest} {place}", token)
        await self._ask(self._redis.srem(self._keys.named("blob_removing"), words))

    async def _drop(self, digest: str, reference: str, token: str) -> None:
        listed: str | None = await self._ask(self._redis.hget(self._keys.contents("sizes"), digest))
        keys = [self._keys.content(digest, part) for part in ("refs", "pieces")]
        if await self._script("blob_drop", keys, reference, token) and listed is not None:
            # Unless it was listed anew since.
            keys = [self._keys.contents("sizes"), self._keys.contents("total")]
            await self._script("blob_unlist", keys, digest, listed)

    async def get(self, conversation: ConversationKey, digest: str) -> Blob | None:
        """By its newest name."""
        if not is_digest(digest):
            return None
        found = await self._meant(conversation, digest, await self._people(conversation, digest))
        return max(found, key=lambda blob: blob.at, default=None)

    async def _meant(self, conversation: ConversationKey, digest: str, people: Sequence[str]) -> list[Blob]:
        """What counts of what they call it."""
        key, found = self._keys.of(conversation, "blobs"), list[Blob]()
        for person in people:
            meant = _meant(digest, await self._ask(self._redis.hget(key, f"{digest} {person}")))
            if meant is not None and await self._counts(conversation, person, digest, meant.token):
                found.append(meant.blob)
        return found

    async def pieces(self, conversation: ConversationKey, digest: str) -> AsyncGenerator[bytes, None]:
        if await self.get(conversation, digest) is None:
            raise StoreError(f"{conversation} has no file {digest[:64]!r}")
        key, number = self._keys.content(digest, "pieces"), 0
        while True:
            asked = self._redis.execute_command("LINDEX", key, number, **_NOT_DECODED)
            piece = cast(bytes | None, await self._ask(asked))
            if piece is None:
                return
            yield piece
            number += 1

    async def remove(self, conversation: ConversationKey, digest: str) -> bool:
        people = await self._people(conversation, digest) if is_digest(digest) else []
        key = self._keys.of(conversation, "blobs")
        for person in people:
            meant = await self._ask(self._redis.hget(key, f"{digest} {person}"))
            await self._remove(conversation, person, digest, (meant or "").partition(" ")[0])
        return bool(people)

    async def _people(self, conversation: ConversationKey, digest: str) -> list[str]:
        found: str | None = await self._ask(
            self._redis.hget(self._keys.of(conversation, "blob_people"), digest)
        )
        return (found or "").split()

    async def size_of(self, user: UserKey) -> int:
        sizes = await self._ask(self._redis.hvals(self._keys.owner(user, "blobs")))
        return sum(number_of(size.partition(" ")[0]) for size in sizes)

    async def all(self) -> AsyncGenerator[StoredBlob, None]:
        seen: set[str] = set()
        async for digest, _ in self._each(
            self._redis.hscan_iter(self._keys.contents("sizes"), count=_AT_ONCE)
        ):
            # A scan may find one twice while others write.
            if digest in seen:
                continue
            seen.add(digest)
            refs = await self._ask(self._redis.hkeys(self._keys.content(digest, "refs")))
            for place, _, person in (name.partition(" ") for name in sorted(refs)):
                if (found := await self._stored(place, person, digest)) is not None:
                    yield found

    async def of_person(self, user: UserKey) -> AsyncGenerator[StoredBlob, None]:
        key = self._keys.owner(user, "blobs")
        async for field, _ in self._each(self._redis.hscan_iter(key, count=_AT_ONCE)):
            digest, _, place = field.partition(" ")
            if (found := await self._stored(place, str(user), digest)) is not None:
                yield found

    async def _stored(self, place: str, person: str, digest: str) -> StoredBlob | None:
        conversation = conversation_of(place)
        if conversation is None:
            return None
        found, user = await self._meant(conversation, digest, [person]), _user(person)
        return StoredBlob(conversation, user, found[0]) if found and user is not None else None

    async def forget(self, user: UserKey) -> None:
        key = self._keys.owner(user, "blobs")
        before: dict[str, str] = {}
        while entries := await self._ask(self._redis.hgetall(key)):
            if entries == before:
                # Damaged ones, which are found by no name.
                await self._ask(self._redis.unlink(key))
                return
            for field, entry in entries.items():
                digest, _, place = field.partition(" ")
                await self._remove(place, str(user), digest, _token(entry))
            before = entries

    async def reset(self, conversation: ConversationKey) -> None:
        """What no message waits for goes."""
        now = time.time()
        key = self._keys.of(conversation, "blobs")
        async for field, body in self._each(self._redis.hscan_iter(key, count=_AT_ONCE)):
            digest, _, person = field.partition(" ")
            meant = _meant(digest, body)
            if meant is None or not await self._is_waited_for(conversation, meant.blob, meant.update_id, now):
                await self._remove(conversation, person, digest, body.partition(" ")[0])

    async def _is_waited_for(
        self, conversation: ConversationKey, blob: Blob, update_id: str, now: float
    ) -> bool:
        if not update_id:
            return False
        inbox = self._keys.of(conversation, "inbox")
        fields = [f"message {update_id}", f"dead {update_id}", f"answer {update_id}"]
        message, dead, answer = await self._ask(self._redis.hmget(inbox, fields))
        if message is not None or dead is not None:
            return answer is None
        seen = await self._ask(self._redis.zscore(self._keys.of(conversation, "seen"), update_id))
        return seen is None and now - blob.at < ACCEPTED_WITHIN_S

    async def places(self, user: UserKey) -> list[str]:
        """The names of conversations where this person has files."""
        fields = await self._ask(self._redis.hkeys(self._keys.owner(user, "blobs")))
        return sorted({field.partition(" ")[2] for field in fields})

    async def places_like(self, platform: str, pattern: str) -> set[str]:
        """The names of conversations with files that are like the pattern."""
        key = self._keys.named(f"blob_chats:{platform}")
        return {name async for name in self._each(self._redis.sscan_iter(key, match=pattern, count=1000))}

    async def move(
        self, old: ConversationKey, new: ConversationKey, before: UserKey | ChatKey, after: UserKey | ChatKey
    ) -> None:
        """To another conversation, or to a person's new number there. May be repeated."""
        key, cursor = self._keys.of(old, "blobs"), 0
        while True:
            state = await self._histories.state(new)
            following, page = await self._ask(self._redis.hscan(key, cursor, count=_AT_ONCE))
            for field, body in page.items():
                digest, _, person = field.partition(" ")
                user = str(after) if isinstance(after, UserKey) and person == str(before) else person
                if (user, new) == (person, old):
                    continue
                if not await self._bring(digest, body, f"{old} {person}", new, user, state):
                    # Something was removed there meanwhile: what is left of this page?
                    following = cursor
                    break
                await self._remove(old, person, digest, body.partition(" ")[0])
            else:
                if not following:
                    return
            cursor = following

    async def _bring(
        self, digest: str, body: str, before: str, new: ConversationKey, person: str, state: str
    ) -> bool:
        """A reference `before` to its new place. False when something was removed there meanwhile, which may be
        this."""
        meant, user = _meant(digest, body), _user(person)
        if meant is None or user is None:
            return True
        given = (before, meant.token, f"{new} {person}", repr(time.time()), secrets.token_hex(8))
        token: str = await self._script("blob_share", [self._keys.content(digest, "refs")], *given)
        if not token:
            # It does not count any more.
            return True
        await self._note_person(new, user, meant.blob, token, free=True)
        if await self._refer(new, user, meant.blob, token, meant.update_id, state):
            return True
        await self._remove(new, person, digest, token)
        return False

    async def tidy(self, now: float) -> bool:
        """A page of all contents: what is too old goes, and what a crash left. Once an hour to the end. True when
        there is more."""
        removing = self._keys.named("blob_removing")
        for words in await self._ask(self._redis.srandmember(removing, _SWEPT_AT_ONCE)) or []:
            match words.split(" "):
                case [digest, place, person, token]:
                    await self._remove(place, person, digest, token)
                case _:
                    await self._ask(self._redis.srem(removing, words))
        if not self._cursor:
            if self._swept_at is not None and 0 <= now - self._swept_at < _SWEPT_EVERY_S:
                return False
            self._swept_at = now
        sizes = self._keys.contents("sizes")
        self._cursor, page = await self._ask(self._redis.hscan(sizes, self._cursor, count=_SWEPT_AT_ONCE))
        for digest, listed in page.items():
            refs: dict[str, str] = await self._ask(self._redis.hgetall(self._keys.content(digest, "refs")))
            for reference, noted in refs.items():
                place, _, person = reference.partition(" ")
                await self._tidy(digest, place, person, noted, now)
            marked = number_of(listed.partition(" ")[2].partition(" ")[0]) / 1000
            if not refs and marked < time.time() - _SETTLED_AFTER_S:
                await self._drop(digest, "", "")
        return bool(self._cursor)

    async def _tidy(self, digest: str, place: str, person: str, noted: str, now: float) -> None:
        conversation = conversation_of(place)
        meant = [] if conversation is None else await self._meant(conversation, digest, [person])
        before = now - self._limits.kept_s if self._limits.kept_s else float("-inf")
        is_new = _time(noted) >= time.time() - _SETTLED_AFTER_S
        whole = is_new or (meant and await self._is_theirs(place, person, digest, _token(noted)))
        if not whole or any(blob.at < before for blob in meant):
            await self._remove(place, person, digest, _token(noted))
        elif meant:
            # Whoever took the last file out of it at the same moment took its name out of the list, too.
            platform = place.partition(":")[0]
            await self._ask(self._redis.sadd(self._keys.named(f"blob_chats:{platform}"), place))

    async def _is_theirs(self, place: str, person: str, digest: str, token: str) -> bool:
        field = f"{digest} {place}"
        return _token(await self._ask(self._redis.hget(self._keys.owner(person, "blobs"), field))) == token


@dataclass(frozen=True, slots=True)
class _Meant:
    """What a conversation has of a file. `update_id`: of the message that brought it."""

    token: str
    blob: Blob
    update_id: str


def _meant(digest: str, written: str | None) -> _Meant | None:
    """What is damaged is left out."""
    token, _, body = (written or "").partition(" ")
    if not body:
        return None
    try:
        said: Any = kept_json(body)
        blob = Blob(digest, said["media_type"], said["name"], int(said["size"]), float(said["at"]))
        return _Meant(token, blob, str(said["update_id"]))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        _log.error("a file in the store is damaged and is left out: %s", type(error).__name__)
        return None


def _token(entry: str | None) -> str:
    return (entry or "").partition(" ")[2]


def _user(text: str) -> UserKey | None:
    try:
        return UserKey.parse(text)
    except ValueError:
        return None


def _time(text: str) -> float:
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return 0.0
