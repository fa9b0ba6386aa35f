"""Files in Redis: references beside their conversation, contents under their digests. What stands where: see
redis_keys.py.

A content is listed before it is there, and a reference is noted at its content before the person and the
conversation have it; what goes goes the other way round. So `tidy` finds whatever a crash left by the list of all
contents. Between servers of a cluster nothing is atomic, so that each script looks at one key's server alone.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import suppress
from typing import Any, cast

from glmbot.content import is_digest
from glmbot.errors import BlobRefused, StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.blobs import LONGEST_PIECE, MOST_OF_A_PERSON, BlobLimits
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
# What a message brings is put before the message is accepted, and not longer before.
_ACCEPTED_WITHIN_S = 600.0
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
        if not await self._note_person(conversation, user, blob, look=True):
            raise self._limits.refused("person_full", user)
        new = self._keys.content(blob.digest, f"new:{secrets.token_hex(8)}")
        count, size = await self._write(new, pieces)
        try:
            if not await self._list(blob.digest, size):
                raise self._limits.refused("store_full", user)
            keys = [new, *(self._keys.content(blob.digest, part) for part in ("pieces", "refs"))]
            given = (str(count), f"{conversation} {user}", repr(time.time()))
            if not await self._script("blob_place", keys, *given):
                raise StoreUnavailable(f"{self._connection.name}: a file was not written in time")
        finally:
            with suppress(StoreError):
                await self._ask(self._redis.unlink(new))
        # It may have been taken off the list by whoever removed the last reference meanwhile.
        await self._list(blob.digest, size)
        try:
            if not await self._note_person(conversation, user, blob):
                raise self._limits.refused("person_full", user)
            await self._refer(conversation, user, blob, update_id)
        except (BlobRefused, StoreError):
            await self._remove(conversation, str(user), blob.digest)
            raise

    async def _write(self, new: str, pieces: AsyncIterable[bytes]) -> tuple[int, int]:
        """Returns how many pieces and bytes."""
        count = size = 0
        async for piece in pieces:
            count, size = count + 1, size + len(piece)
            if size > self._limits.each * 2 + LONGEST_PIECE:
                raise StoreError("a file has more bytes than it says")
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
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        *,
        look: bool = False,
        free: bool = False,
    ) -> bool:
        """False when they have no room. free: without a limit."""
        limits = ("", "") if free else (str(self._limits.person), str(MOST_OF_A_PERSON))
        given = (f"{blob.digest} {conversation}", str(blob.size), *limits, "look" if look else "")
        return bool(await self._script("blob_person", [self._keys.owner(user, "blobs")], *given))

    async def _refer(
        self, conversation: ConversationKey, user: UserKey, blob: Blob, update_id: str, state: str = ""
    ) -> bool:
        """The conversation has it from now on. False, and it has not, when something was removed there after
        `state`, or the person was forgotten meanwhile."""
        chats = self._keys.named(f"blob_chats:{conversation.platform}")
        await self._ask(self._redis.sadd(chats, str(conversation)))
        said = {"media_type": blob.media_type, "name": blob.name, "size": blob.size, "at": blob.at}
        body = json.dumps({**said, "update_id": update_id}, ensure_ascii=False)
        keys = self._keys.all_of(conversation, (*_REFERENCES, "meta"))
        if not await self._script("blob_refer", keys, blob.digest, str(user), body, state):
            return False
        await self._ask(self._redis.sadd(chats, str(conversation)))
        key, field = self._keys.owner(user, "blobs"), f"{blob.digest} {conversation}"
        if await self._ask(self._redis.hexists(key, field)):
            return True
        # They were forgotten meanwhile.
        await self._remove(conversation, str(user), blob.digest)
        return False

    async def _remove(self, conversation: ConversationKey | str, user: str, digest: str) -> None:
        """One reference, and the content with the last one."""
        keys = self._keys.all_of(conversation, _REFERENCES)
        if await self._script("blob_unrefer", keys, digest, user) == 2:
            platform = str(conversation).partition(":")[0]
            await self._ask(self._redis.srem(self._keys.named(f"blob_chats:{platform}"), str(conversation)))
        await self._ask(self._redis.hdel(self._keys.owner(user, "blobs"), f"{digest} {conversation}"))
        await self._drop(digest, f"{conversation} {user}")

    async def _drop(self, digest: str, reference: str) -> None:
        listed: str | None = await self._ask(self._redis.hget(self._keys.contents("sizes"), digest))
        keys = [self._keys.content(digest, part) for part in ("refs", "pieces")]
        if await self._script("blob_drop", keys, reference) and listed is not None:
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
        fields = [f"{digest} {person}" for person in people]
        key = self._keys.of(conversation, "blobs")
        bodies = await self._ask(self._redis.hmget(key, fields)) if fields else []
        read = [_blob(digest, body) for body in bodies if body is not None]
        return [found[0] for found in read if found is not None]

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
        for user in people:
            await self._remove(conversation, user, digest)
        return bool(people)

    async def _people(self, conversation: ConversationKey, digest: str) -> list[str]:
        found: str | None = await self._ask(
            self._redis.hget(self._keys.of(conversation, "blob_people"), digest)
        )
        return (found or "").split()

    async def size_of(self, user: UserKey) -> int:
        sizes = await self._ask(self._redis.hvals(self._keys.owner(user, "blobs")))
        return sum(map(number_of, sizes))

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
        before: list[str] = []
        while fields := await self._ask(self._redis.hkeys(key)):
            if fields == before:
                # Damaged ones, which are found by no name.
                await self._ask(self._redis.unlink(key))
                return
            for field in fields:
                digest, _, place = field.partition(" ")
                await self._remove(place, str(user), digest)
            before = fields

    async def reset(self, conversation: ConversationKey) -> None:
        """What no message waits for goes."""
        now = time.time()
        key = self._keys.of(conversation, "blobs")
        async for field, body in self._each(self._redis.hscan_iter(key, count=_AT_ONCE)):
            digest, _, person = field.partition(" ")
            found = _blob(digest, body)
            if found is None or not await self._is_waited_for(conversation, *found, now):
                await self._remove(conversation, person, digest)

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
        return seen is None and now - blob.at < _ACCEPTED_WITHIN_S

    async def places(self, owner: UserKey | ChatKey, pattern: str = "*") -> list[str]:
        """The names of conversations of that chat which have files, or of those where this person has some."""
        if isinstance(owner, UserKey):
            fields = await self._ask(self._redis.hkeys(self._keys.owner(owner, "blobs")))
            return sorted({field.partition(" ")[2] for field in fields})
        chat = owner
        key = self._keys.named(f"blob_chats:{chat.platform}")
        return [name async for name in self._each(self._redis.sscan_iter(key, match=pattern, count=1000))]

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
                if (user, new) != (person, old) and not await self._bring(
                    digest, body, new, user, state, await self._is_whole(str(old), person, digest)
                ):
                    # Something was removed there meanwhile: what is left of this page?
                    following = cursor
                    break
                if (user, new) != (person, old):
                    await self._remove(old, person, digest)
            else:
                if not following:
                    return
            cursor = following

    async def _bring(
        self, digest: str, body: str, new: ConversationKey, user: str, state: str, whole: bool
    ) -> bool:
        """False when something was removed there meanwhile, which may be this. What is not whole stays."""
        found, whose = _blob(digest, body), _user(user)
        if found is None or whose is None or not whole:
            return True
        blob, update_id = found
        refs = self._keys.content(digest, "refs")
        await self._ask(self._redis.hset(refs, f"{new} {user}", repr(time.time())))
        await self._note_person(new, whose, blob, free=True)
        if await self._refer(new, whose, blob, update_id, state):
            return True
        await self._remove(new, user, digest)
        return False

    async def tidy(self, now: float) -> bool:
        """A page of all contents: what is too old goes, and what a crash left. Once an hour to the end. True when
        there is more."""
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
                await self._tidy(digest, place, person, _time(noted), now)
            marked = number_of(listed.partition(" ")[2].partition(" ")[0]) / 1000
            if not refs and marked < time.time() - _SETTLED_AFTER_S:
                await self._drop(digest, "")
        return bool(self._cursor)

    async def _tidy(self, digest: str, place: str, person: str, noted: float, now: float) -> None:
        conversation = conversation_of(place)
        meant = [] if conversation is None else await self._meant(conversation, digest, [person])
        before = now - self._limits.kept_s if self._limits.kept_s else float("-inf")
        is_new = noted >= time.time() - _SETTLED_AFTER_S
        if any(blob.at < before for blob in meant) or not (
            is_new or await self._is_whole(place, person, digest)
        ):
            await self._remove(place, person, digest)
        elif meant:
            # Whoever took the last file out of it at the same moment took its name out of the list, too.
            platform = place.partition(":")[0]
            await self._ask(self._redis.sadd(self._keys.named(f"blob_chats:{platform}"), place))

    async def _is_whole(self, place: str, person: str, digest: str) -> bool:
        conversation = conversation_of(place)
        if conversation is None or person not in await self._people(conversation, digest):
            return False
        field = f"{digest} {place}"
        return bool(await self._ask(self._redis.hexists(self._keys.owner(person, "blobs"), field)))


def _blob(digest: str, body: str) -> tuple[Blob, str] | None:
    """With the id of the message that brought it. What is damaged is left out."""
    try:
        said: Any = kept_json(body)
        found = Blob(digest, said["media_type"], said["name"], int(said["size"]), float(said["at"]))
        return found, str(said["update_id"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        _log.error("a file in the store is damaged and is left out: %s", type(error).__name__)
        return None


def _user(text: str) -> UserKey | None:
    try:
        return UserKey.parse(text)
    except ValueError:
        return None


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
