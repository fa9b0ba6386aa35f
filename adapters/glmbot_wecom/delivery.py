"""One answer of a smart bot: a stream that is refreshed while it grows, and is ended with its last words.

https://developer.work.weixin.qq.com/document/path/101463: a message can be replied to for 24 hours, a stream is
refreshed for ten minutes and not once it has ended. After that, and where nobody asked, messages are sent by
themselves, and stay as they are. A card of buttons would be a message of its own under each answer: there is none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Missing, Outlet, Piece, Reduced, Refused
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, ChatKind, Message, Reply
from glmbot_wecom.connection import Connection
from glmbot_wecom.normalize import REPLY
from glmbot_wecom.refusals import StreamGone
from glmbot_wecom.render import LONGEST_MARKDOWN, NOTICE_ROOM, fits, words_of_piece

__all__ = ["PROFILE", "SmartOutlet", "check_file"]

_SPLIT_AT = 4000
_PRIVATE, _GROUP = 1, 2
# https://developer.work.weixin.qq.com/document/path/101463: parts of 512 KB, a file of 5 bytes to 20 MB.
_PART = 512 * 2**10
_SMALLEST_FILE, _LARGEST_FILE = 5, 20 * 2**20
_LONGEST_NAME = 256

PROFILE = Profile(
    frozenset({Ability.EDIT, Ability.ONCE, Ability.FILE, Ability.MARKDOWN}),
    # Of bytes there are three in a Chinese character.
    longest=LONGEST_MARKDOWN // 3,
)
_PUSHED = frozenset({Ability.FILE, Ability.MARKDOWN})
# What still grows is shown to nobody, and is sent once it has ended.
_NO_STREAM = PROFILE.abilities | {Ability.DRAFT}


@dataclass(frozen=True, slots=True)
class _Growing(Piece):
    """More words come, or at least the end of the stream."""


class SmartOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`. A message's id is the request that it replies to, and its stream's; the
    same stream is the same message, also for the next process."""

    def __init__(self, connection: Connection, message: Message) -> None:
        self._connection = connection
        self._chat = message.conversation.chat
        self._kind = _PRIVATE if message.chat_kind is ChatKind.PRIVATE else _GROUP
        self._request = message.origin.get(REPLY, "")
        self._update = message.update_id
        self._lost = False
        self._pushed: dict[str, str] = {}

    @property
    def abilities(self) -> frozenset[Ability]:
        if not self._request:
            return _PUSHED
        return _NO_STREAM if self._lost else PROFILE.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        pieces = cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=fits)
        return pieces if reply.state.ended else [_Growing(each.text, each.notice) for each in pieces]

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            return await self._send_file(item)
        if not self._request or self._lost:
            words = words_of_piece(item)
            name = await self._push("markdown", {"content": words})
            self._pushed[name] = words
            return name
        stream = hashlib.sha256(f"{self._update}\n{place}".encode()).hexdigest()[:32]
        try:
            await self._write(stream, item)
        except StreamGone as error:
            self._lost = True
            raise Reduced(str(error)) from error
        return f"{self._request} {stream}"

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        request, _, stream = message_id.partition(" ")
        if isinstance(item, Piece) and self._pushed.get(message_id) == words_of_piece(item):
            # It has ended, in the words that it had.
            return
        if isinstance(item, Attachment) or not stream or request != self._request or self._lost:
            raise Missing("WeCom: what was sent stays as it is")
        try:
            await self._write(stream, item)
        except StreamGone as error:
            self._lost = True
            raise Missing(str(error)) from error

    async def draft(self, piece: Piece) -> None:
        """Nothing is shown of it."""

    async def _write(self, stream: str, piece: Piece) -> None:
        body = {"id": stream, "finish": not isinstance(piece, _Growing), "content": words_of_piece(piece)}
        await self._connection.ask("aibot_respond_msg", {"msgtype": "stream", "stream": body}, self._request)

    async def _push(self, kind: str, content: dict[str, Any]) -> str:
        body = {"chatid": self._chat, "chat_type": self._kind, "msgtype": kind, kind: content}
        name = self._connection.new_request("aibot_send_msg")
        await self._connection.ask("aibot_send_msg", body, name)
        return name

    async def _send_file(self, file: Attachment) -> str:
        """In parts, each confirmed by itself."""
        check_file(file, _LARGEST_FILE)
        content, ask = file.content, self._connection.ask
        parts = [content[at : at + _PART] for at in range(0, len(content), _PART)]
        begun = await ask(
            "aibot_upload_media_init",
            {
                "type": "file",
                "filename": file.name,
                "total_size": len(content),
                "total_chunks": len(parts),
                "md5": await asyncio.to_thread(_md5, content),
            },
        )
        upload = {"upload_id": str(begun.get("upload_id", ""))[:1000]}
        for index, part in enumerate(parts):
            encoded = (await asyncio.to_thread(base64.b64encode, part)).decode()
            await ask("aibot_upload_media_chunk", {**upload, "chunk_index": index, "base64_data": encoded})
        done = await ask("aibot_upload_media_finish", upload)
        return await self._push("file", {"media_id": str(done.get("media_id", ""))[:1000]})


def check_file(file: Attachment, most: int) -> None:
    """Raises Refused for one that WeCom does not take."""
    if not _SMALLEST_FILE <= len(file.content) <= most or len(file.name.encode()) > _LONGEST_NAME:
        raise Refused(f"WeCom: a file of {len(file.content)} bytes, or its name")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
