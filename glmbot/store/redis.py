"""The production store: Redis 6.2 or newer, alone, behind Sentinel or as a cluster.

What stands where: see redis_keys.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Mapping, Sequence
from dataclasses import asdict
from typing import cast

from glmbot.errors import ClaimLost, StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey, in_chat
from glmbot.messages import ConversationSummary, Message
from glmbot.notes import Note
from glmbot.store.blobs import BlobLimits
from glmbot.store.notes import StoredNote
from glmbot.store.records import (
    Blob,
    ExportedConversation,
    StoredAnswer,
    StoredBlob,
    StoredConversation,
    Turn,
    whole_conversations,
)
from glmbot.store.redis_blobs import RedisBlobs
from glmbot.store.redis_histories import RedisHistories, number_of, turn_body
from glmbot.store.redis_inbox import RedisInbox
from glmbot.store.redis_moves import RedisMoves
from glmbot.store.redis_notes import RedisNotes
from glmbot.store.redis_owners import RedisOwners
from glmbot.store.redis_removal import RedisRemoval
from glmbot.store.redis_upgrade import bring_up_to_date
from glmbot.store.ways import check_move

__all__ = ["RedisStore"]

_log = logging.getLogger(__name__)

_NEWS_TAKEN_OVER_S = 60.0
# They take memory, and make each save larger.
_BLOBS = BlobLimits(everybody=500_000_000)
# How far back `asked_in` looks: each page is one short request, and all of them a fraction of a second.
_RECENT_AT_ONCE = 1000
_RECENT_PAGES = 50


class RedisStore(RedisInbox, RedisOwners):
    """See `glmbot.store.base.Store`."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "glmbot",
        update_ids_kept_s: float = 7 * 86400,
        turns_kept_s: float = 0,
        timeout_s: float = 5.0,
        blobs: BlobLimits | None = None,
    ) -> None:
        """url: see `glmbot.store.redis_connection`. turns_kept_s 0 keeps turns for ever. Raises ValueError."""
        super().__init__(url, prefix, update_ids_kept_s, timeout_s)
        self._turns_kept_s = turns_kept_s
        self._histories = RedisHistories(self._connection, self._keys)
        self._blobs = RedisBlobs(self._connection, self._keys, self._histories, blobs or _BLOBS)
        self._notes = RedisNotes(self._connection, self._keys)
        self._moves = RedisMoves(self._connection, self._keys, self._histories, self._blobs, self._notes)
        self._removal = RedisRemoval(
            self._connection,
            self._keys,
            self._histories,
            self._claims,
            self._moves,
            self._blobs,
            self._notes,
        )

    @property
    def journaled(self) -> int:
        return 0

    async def open(self) -> None:
        await self._ask(self._redis.ping())
        await bring_up_to_date(self._connection, self._keys, self.owner)

    async def close(self) -> None:
        await self._connection.close()

    async def check(self) -> None:
        await self._ask(self._redis.set(self._keys.named("health"), self.owner, px=60_000))

    async def warnings(self) -> Sequence[str]:
        try:
            config = await self._ask(
                self._redis.config_get("appendonly", "save", "maxmemory-policy", "min-replicas-to-write")
            )
        except StoreError:
            return [f"{self._name}: CONFIG is not allowed, so persistence and eviction could not be checked"]
        found: list[str] = []
        if config.get("appendonly") != "yes":
            found.append(
                f"{self._name}: appendonly is off; a crash of Redis loses the last messages"
                if config.get("save")
                else f"{self._name}: nothing is persisted; a restart of Redis loses every history"
            )
        policy = config.get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            found.append(f"{self._name}: maxmemory-policy is {policy}; Redis may throw histories away")
        if self._connection.fails_over and config.get("min-replicas-to-write") == "0":
            found.append(
                f"{self._name}: min-replicas-to-write is 0; what an old master takes when it comes back is lost"
            )
        return found

    # ---- claims -----------------------------------------------------------------------------------------------

    async def waiting(self, platform: str, wait_s: float) -> Sequence[ConversationKey]:
        return await self._claims.waiting(platform, wait_s)

    async def open_conversations(self, platform: str) -> Sequence[ConversationKey]:
        return await self._claims.open_conversations(platform, _NEWS_TAKEN_OVER_S)

    async def leave_to(self, conversation: ConversationKey, owner: str) -> None:
        await self._claims.signal(f"look {owner} {conversation}")
        await self._claims.settled(conversation, nothing_open=False)

    async def release(self, conversation: ConversationKey) -> None:
        await self._script("release", conversation, ("claim",), self.owner)
        await self._claims.settled(conversation, nothing_open=False)
        await self._claims.announce(conversation)

    async def lease(self, name: str, lasts_s: float) -> str:
        return await self._claims.lease(name, lasts_s)

    async def end_lease(self, name: str) -> None:
        await self._claims.end_lease(name)

    async def keep(self) -> None:
        await self._claims.keep()

    async def signal(self, words: str) -> None:
        await self._claims.signal(words)

    async def signals(self, wait_s: float) -> Sequence[str]:
        return await self._claims.signals(wait_s)

    # ---- histories --------------------------------------------------------------------------------------------

    async def epoch(self, conversation: ConversationKey) -> int:
        return number_of(await self._ask(self._redis.hget(self._keys.of(conversation, "meta"), "epoch")))

    async def last_turns(
        self, conversation: ConversationKey, limit: int, *, upto: int | None = None
    ) -> Sequence[Turn]:
        return await self._histories.last_turns(conversation, limit, upto)

    async def followers(
        self, conversation: ConversationKey, turns: Sequence[int]
    ) -> Mapping[int, Sequence[int]]:
        return await self._histories.followers(conversation, turns)

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        return await self._histories.lead(conversation, head, refs)

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        return await self._histories.turn_of(conversation, ref)

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        recent, begin = self._keys.named(f"recent:{chat.platform}"), in_chat(chat.platform, chat.id)
        for page in range(_RECENT_PAGES):
            # A conversation's last turn is no older than any question in it.
            names: list[str] = await self._ask(
                self._redis.zrevrangebyscore(
                    recent, "+inf", since, start=page * _RECENT_AT_ONCE, num=_RECENT_AT_ONCE
                )
            )
            of_chat = [name for name in names if name.startswith(begin)]
            anchors = self._redis.pipeline(transaction=False)
            for name in of_chat:
                anchors.hget(self._keys.of(name, "anchors"), ref)
            found: list[str | None] = await self._ask(anchors.execute()) if of_chat else []
            for name, anchor in zip(of_chat, found, strict=True):
                if anchor is not None and anchor.endswith(" 0"):
                    return ConversationKey.parse(name)
            if len(names) < _RECENT_AT_ONCE:
                break
        return None

    async def shown(self, conversation: ConversationKey, turn: int) -> Sequence[str]:
        return await self._histories.shown(conversation, turn)

    async def pieces(self, conversation: ConversationKey, turn: int) -> Mapping[str, int]:
        return await self._histories.pieces(conversation, turn)

    async def finish(
        self,
        message: Message,
        answer: StoredAnswer,
        *,
        question: str | None = None,
        epoch: int = 0,
        at: float = 0.0,
        parent: int | None = None,
        ref: str = "",
        turn_answer: str | None = None,
        parts: str = "",
    ) -> bool:
        conversation, turn = message.conversation, cast(tuple[str, ...], ())
        if question is not None:
            text = answer.text if turn_answer is None else turn_answer
            pieces = message.act.pieces if ref == message.ref else {}
            places = [part for piece, tail in pieces.items() for part in (piece, str(-1 - tail))]
            body = turn_body(question, text, ref, answer.thought, parts)
            turn = (str(message.user), repr(at), body, ref, *places)
            await self._histories.note(conversation, message.user, at)
        keys = self._keys.all_of(
            conversation, ("inbox", "claim", "tree", "meta", "anchors", "refs", "children", "people")
        )
        appended = await self._connection.run(
            "finish",
            [*keys, self._keys.turns_of(conversation, message.user)],
            self.owner,
            message.update_id,
            json.dumps(asdict(answer), ensure_ascii=False),
            str(epoch),
            "" if parent is None else str(parent),
            # Should no process be there to delete them.
            str(int(self._turns_kept_s) + 86400 if self._turns_kept_s else 0),
            *turn,
        )
        if appended < 0:
            raise ClaimLost(conversation)
        if not appended and turn:
            await self._histories.unnote(conversation, message.user)
        return appended == 1

    async def reset(self, conversation: ConversationKey) -> int:
        return await self._removal.reset(conversation)

    async def remove_turn(self, conversation: ConversationKey, turn: int) -> None:
        await self._removal.remove_turn(conversation, turn)

    async def conversations(self, user: UserKey) -> Sequence[ConversationKey]:
        return await self._histories.with_turns(user)

    async def conversation_summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        return await self._histories.summaries(user, limit, before)

    async def export(self, user: UserKey) -> Sequence[ExportedConversation]:
        return [page async for page in whole_conversations(self.export_pages(user))]

    def export_pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        return self._histories.pages(user)

    async def forget(self, user: UserKey) -> int:
        for old, new in await self._removal.halfway(user):
            await self._move(old, new)
        return await self._removal.forget(user)

    async def move(self, old: UserKey | ChatKey, new: UserKey | ChatKey, at: float) -> None:
        check_move(old, new)
        if old == new:
            return
        await self._moves.begin(old, new, at)
        await self._move(old, new)

    async def _move(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        for conversation in await self._moves.move(old, new):
            await self._claims.open(conversation)
            await self._claims.announce(conversation)

    async def tidy(self, now: float) -> bool:
        user = await self._removal.pending()
        if user is not None:
            await self._unless_damaged(self.forget(user))
        for old, new in await self._moves.pending(now):
            await self._unless_damaged(self._move_late(old, new, now))
        more = await self._blobs.tidy(now)
        return (bool(self._turns_kept_s) and await self._removal.expire(now - self._turns_kept_s)) or more

    async def _move_late(self, old: UserKey | ChatKey, new: UserKey | ChatKey, now: float) -> None:
        await self._move(old, new)
        await self._moves.followed(old, now)

    async def _unless_damaged(self, work: Awaitable[object]) -> None:
        """What can't be done for one keeps nothing else from being tidied."""
        try:
            await work
        except StoreUnavailable:
            raise
        except StoreError as error:
            _log.error("something in the store can't be tidied: %s", error)

    async def recent(self, since: float) -> Sequence[ConversationKey]:
        return await self._histories.recent(since)

    # ---- backup -----------------------------------------------------------------------------------------------

    def everything(self) -> AsyncGenerator[StoredConversation, None]:
        return self._histories.everything()

    async def put(self, stored: StoredConversation) -> bool:
        return await self._histories.put(stored)

    # ---- notes ------------------------------------------------------------------------------------------------

    async def note(self, book: str, name: str) -> Note | None:
        return await self._notes.get(book, name)

    async def put_note(self, book: str, note: Note, version: int, *, asked: Message | None = None) -> bool:
        return await self._notes.put(book, note, version, asked=asked)

    async def notes(self, book: str, limit: int, after: str = "", upto: str = "") -> Sequence[Note]:
        return await self._notes.page(book, limit, after, upto)

    async def notes_of(self, user: UserKey, book: str = "") -> Sequence[StoredNote]:
        return await self._notes.of(user, book)

    def all_notes(self) -> AsyncGenerator[StoredNote, None]:
        return self._notes.all()

    # ---- files ------------------------------------------------------------------------------------------------

    async def put_blob(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        pieces: AsyncIterable[bytes],
        *,
        update_id: str = "",
    ) -> None:
        await self._place(user, conversation, blob.at)
        await self._blobs.put(conversation, user, blob, pieces, update_id)
        # Whoever was forgotten meanwhile is mentioned nowhere, and has sent this.
        await self._place(user, conversation, blob.at)

    async def blob(self, conversation: ConversationKey, digest: str) -> Blob | None:
        return await self._blobs.get(conversation, digest)

    def blob_pieces(self, conversation: ConversationKey, digest: str) -> AsyncGenerator[bytes, None]:
        return self._blobs.pieces(conversation, digest)

    async def remove_blob(self, conversation: ConversationKey, digest: str) -> bool:
        return await self._blobs.remove(conversation, digest)

    async def blob_bytes(self, user: UserKey) -> int:
        return await self._blobs.size_of(user)

    def blobs(self, user: UserKey | None = None) -> AsyncGenerator[StoredBlob, None]:
        return self._blobs.all() if user is None else self._blobs.of_person(user)
