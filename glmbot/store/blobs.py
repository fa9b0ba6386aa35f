"""Pictures, voice and files: how they are cut, what is too much, and what comes back is what was sent.

They come in pieces, so that none is in memory twice and no thread is held for long. The digest is that of the
content as a person sent it, whatever a store makes of the pieces.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from glmbot.content import is_media_type
from glmbot.errors import BlobRefused, StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.store.records import Blob, StoredBlob

__all__ = [
    "ACCEPTED_WITHIN_S",
    "LONGEST_PIECE",
    "MOST_OF_A_PERSON",
    "PIECE_BYTES",
    "BlobLimits",
    "Blobs",
    "keep",
    "pieces_of",
    "read",
]

PIECE_BYTES = 256 * 1024
LONGEST_PIECE = 2 * PIECE_BYTES
"""Of what a store keeps of one: encryption makes it a third longer."""
MOST_OF_A_PERSON = 10_000
ACCEPTED_WITHIN_S = 600.0
"""What a message brings is put before the message is accepted, and not longer before."""
_LONGEST_NAME = 255
_UNKNOWN = "application/octet-stream"
_MB = 1_000_000
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Blobs(Protocol):
    """Pictures, voice and files, by the digest of their content. The content is kept once; who put it where is a
    reference, and with the last of them the content goes. A reference is seen only when its content is there; what
    else a crash leaves `Upkeep.tidy` deletes. Errors: see `glmbot.store.base`."""

    async def put_blob(
        self,
        conversation: ConversationKey,
        user: UserKey,
        blob: Blob,
        pieces: AsyncIterable[bytes],
        *,
        update_id: str = "",
    ) -> None:
        """Keep it for this conversation, as `user` sent it. Again: with its newest name and time.

        `update_id` is that of the message that brings it: `reset` leaves what waits for its answer its files.
        Raises BlobRefused where it is too large, or there is no room for it.
        """
        ...

    async def blob(self, conversation: ConversationKey, digest: str) -> Blob | None:
        """What this conversation calls it, if it refers to it."""
        ...

    def blob_pieces(self, conversation: ConversationKey, digest: str) -> AsyncGenerator[bytes, None]:
        """The content as it was put, a piece at a time. Raises StoreError where this conversation has none."""
        ...

    async def remove_blob(self, conversation: ConversationKey, digest: str) -> bool:
        """This conversation refers to it no longer, whoever put it there. False when it did not."""
        ...

    async def blob_bytes(self, user: UserKey) -> int:
        """How much of this person's is kept, each reference counted."""
        ...

    def blobs(self, user: UserKey | None = None) -> AsyncGenerator[StoredBlob, None]:
        """All references, or a person's; in pages. Those to one content stand together where all are asked for."""
        ...


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """Bytes of one, of all of a person, of all that the store keeps; and seconds, 0 for ever."""

    each: int = 20 * _MB
    person: int = 500 * _MB
    everybody: int = 10_000 * _MB
    kept_s: float = 0.0

    def refuse_large(self, blob: Blob) -> None:
        """Raises BlobRefused."""
        if blob.size > self.each:
            raise BlobRefused(
                "too_large",
                f"a file of {_mb(blob.size)} MB is larger than the {_mb(self.each)} MB of [store] blob_mb",
            )

    def refuse_longer(self, written: int) -> None:
        """written: bytes that a store has so far of one that says it is not too large. Raises StoreError."""
        if written > self.each * 2 + LONGEST_PIECE:
            raise StoreError("a file has more bytes than it says")

    def refused(self, reason: str, user: UserKey) -> BlobRefused:
        """`reason`: of `BlobRefused`; no room for another file of this person."""
        if reason == "person_full":
            return BlobRefused(
                reason,
                f"{user} has as many files as [store] blob_person_mb ({_mb(self.person)} MB), or the number of"
                f" {MOST_OF_A_PERSON}, allows: /reset or /forget deletes them, [store] blob_keep_days in time",
            )
        return BlobRefused(
            reason,
            f"all files together have reached the {_mb(self.everybody)} MB of [store] blob_total_mb: raise it, or"
            " lower [store] blob_keep_days",
        )


async def keep(
    store: Blobs,
    conversation: ConversationKey,
    user: UserKey,
    content: bytes,
    *,
    media_type: str,
    name: str,
    at: float,
    update_id: str = "",
) -> Blob:
    """Keep what a person sent. `media_type` and `name` may be any text. See `Blobs.put_blob`.

    Raises StoreError and BlobRefused.
    """
    digest = await asyncio.to_thread(lambda: sha256(content).hexdigest())
    kind = media_type.partition(";")[0].strip().lower()
    blob = Blob(digest, kind if is_media_type(kind) else _UNKNOWN, _fit(name), len(content), at)
    await store.put_blob(conversation, user, blob, pieces_of(content), update_id=update_id)
    return blob


async def read(store: Blobs, conversation: ConversationKey, blob: Blob) -> AsyncGenerator[bytes, None]:
    """The content in pieces of at most `PIECE_BYTES`. Raises StoreError, at the end where only there it shows that
    something else was kept."""
    found, size = sha256(), 0
    async with aclosing(store.blob_pieces(conversation, blob.digest)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > blob.size:
                break
            await asyncio.to_thread(found.update, piece)
            yield piece
    if size != blob.size or found.hexdigest() != blob.digest:
        raise StoreError(
            f"the file {blob.digest} is damaged in the store: take it from a backup, or delete it"
        )


async def pieces_of(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def _fit(name: str) -> str:
    return _UNFIT.sub("", name[: 4 * _LONGEST_NAME])[:_LONGEST_NAME]


def _mb(size: int) -> str:
    return f"{size / _MB:,.1f}".removesuffix(".0")
