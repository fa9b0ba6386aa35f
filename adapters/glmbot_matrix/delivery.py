"""One answer's messages in a Matrix room.

What Matrix allows: https://spec.matrix.org/v1.15/client-server-api/#sending-events-to-a-room (a request with
the same transaction id is taken once), https://spec.matrix.org/v1.15/client-server-api/#event-replacements,
https://spec.matrix.org/v1.15/client-server-api/#threading, https://spec.matrix.org/v1.15/client-server-api/#redactions
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from typing import Any

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Closed, Gone, Missing, Outlet, Piece, Refused
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, ChatKind, Message, Press, Reply
from glmbot_matrix.buttons import Buttons, keys_for, legend_of
from glmbot_matrix.client import MatrixClient
from glmbot_matrix.normalize import BUTTONS
from glmbot_matrix.refusals import ask
from glmbot_matrix.render import NOTICE_ROOM, SPLIT_AT, alone, body_of, fits, render

__all__ = ["PROFILE", "MatrixOutlet", "redact", "transaction"]

_log = logging.getLogger(__name__)

# What clients without edits show of one.
_LONGEST_FALLBACK = 200
_TYPING_MS = 15_000
_UPLOAD_S = 120.0
# m.upload.size of Synapse, unless its operator says otherwise: https://spec.matrix.org/v1.15/client-server-api/#get_matrixclientv1mediaconfig
_LARGEST_FILE = 50 * 2**20
_LONGEST_NAME = 200

# An event may have 65,536 bytes and no number of characters.
PROFILE = Profile(frozenset(Ability) - {Ability.DRAFT, Ability.APPEND})


class MatrixOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(
        self,
        client: MatrixClient,
        message: Message,
        buttons: Buttons,
        *,
        room_now: Callable[[str], str] = lambda room: room,
        sent: Callable[[str], None] = lambda _: None,
    ) -> None:
        """room_now: where a room is by now, if it was upgraded. sent is told the id of each message."""
        self._client = client
        self._buttons = buttons
        self._room_now = room_now
        self._tell = sent
        self._asked_in = message.conversation.chat
        self._room = room_now(self._asked_in)
        self._thread = message.conversation.thread if self._room == self._asked_in else ""
        self._group = message.chat_kind is ChatKind.GROUP
        self._asker = message.user.id if message.conversation.user else ""
        self._about = message.ref or (message.about if isinstance(message.intent, Press) else "")
        self._update = message.update_id
        # What was sent since the room was upgraded; None: it was not. What was said before stands elsewhere.
        self._sent_here: set[str] | None = None

    @property
    def abilities(self) -> frozenset[Ability]:
        return PROFILE.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        if not reply.text:
            reply = replace(reply, notice=alone(reply.notice))
        return cut_reply(reply, SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=fits)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        self._look_where()
        content = await self._file(item) if isinstance(item, Attachment) else self._said(item, mentions=True)
        content |= self._relation()
        sent = await ask(
            self._client.room_send(
                self._room,
                "m.room.message",
                content,
                tx_id=transaction(self._update, self._room, place),
                ignore_unverified_devices=True,
            )
        )
        event = str(sent.event_id)
        self._tell(event)
        if self._sent_here is not None:
            self._sent_here.add(event)
        if isinstance(item, Piece):
            self._show_buttons(event, item, new=True)
        return event

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._check_here(message_id)
        if isinstance(item, Attachment):
            # Clients show what a message was first of all; a file comes as one of its own.
            raise Missing("a message does not become a file")
        new = self._said(item, mentions=True)
        content = {
            **self._said(
                Piece(item.text[:_LONGEST_FALLBACK], item.notice[:_LONGEST_FALLBACK]), mentions=False
            ),
            BUTTONS: new[BUTTONS],
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": message_id},
        }
        content["body"] = f"* {content['body']}"
        await ask(
            self._client.room_send(self._room, "m.room.message", content, ignore_unverified_devices=True)
        )
        self._show_buttons(message_id, item, new=False)

    async def remove(self, message_id: str) -> None:
        self._check_here(message_id)
        try:
            await redact(self._client, self._room, message_id)
        except (Closed, Gone) as error:
            # Who may not redact may well write.
            raise Refused(str(error)) from error

    async def typing(self) -> None:
        await ask(self._client.room_typing(self._room, True, _TYPING_MS))

    # ---- what a message says -------------------------------------------------------------------------------

    def _said(self, piece: Piece, *, mentions: bool) -> dict[str, Any]:
        """mentions: who asked is told, in a room of several. Always given, so that no words call anybody."""
        named = [self._asker] if mentions and self._group and self._asker else []
        notice = "\n".join(filter(None, (piece.notice, legend_of(piece.actions))))
        return {
            "msgtype": "m.notice",
            "body": body_of(piece.text, notice),
            "format": "org.matrix.custom.html",
            "formatted_body": render(piece.text, notice),
            "m.mentions": {"user_ids": named} if named else {},
            BUTTONS: {
                "asker": self._asker,
                "thread": self._thread,
                "keys": keys_for(piece.actions),
            },
        }

    def _relation(self) -> Mapping[str, Any]:
        """In rooms of several it stands under the question, or in its thread."""
        about = {"m.in_reply_to": {"event_id": self._about}} if self._about else {}
        if self._thread:
            falling_back = about or {"m.in_reply_to": {"event_id": self._thread}}
            thread = {"rel_type": "m.thread", "event_id": self._thread, "is_falling_back": True}
            return {"m.relates_to": {**thread, **falling_back}}
        if not self._group or not about or self._sent_here is not None:
            return {}
        return {"m.relates_to": about}

    async def _file(self, file: Attachment) -> dict[str, Any]:
        """https://spec.matrix.org/v1.15/client-server-api/#mfile, of encrypted rooms
        https://spec.matrix.org/v1.15/client-server-api/#sending-encrypted-attachments"""
        size, name = len(file.content), file.name[:_LONGEST_NAME]
        if size > _LARGEST_FILE:
            raise Refused(f"the file has {size} bytes")
        room = self._client.rooms.get(self._room)
        hidden = self._client.olm is not None and room is not None and room.encrypted
        found: list[Any] = []

        async def upload() -> Any:
            answer, keys = await self._client.upload(
                lambda *_: BytesIO(file.content), file.media_type, name, encrypt=hidden, filesize=size
            )
            found.append(keys)
            return answer

        try:
            async with asyncio.timeout(_UPLOAD_S):
                uploaded = await ask(upload(), file=True)
        except (Closed, Gone, Missing) as error:
            # Files have rights of their own.
            raise Refused(str(error)) from error
        where = (
            {"file": {**found[0], "url": uploaded.content_uri}} if hidden else {"url": uploaded.content_uri}
        )
        return {
            "msgtype": "m.file",
            "body": name,
            "filename": name,
            "info": {"mimetype": file.media_type, "size": size},
            "m.mentions": {},
            **where,
        }

    def _show_buttons(self, event: str, piece: Piece, *, new: bool) -> None:
        self._buttons.show(self._room, event, keys_for(piece.actions), self._asker, self._thread, new=new)

    # ---- where it stands -----------------------------------------------------------------------------------

    def _look_where(self) -> None:
        now = self._room_now(self._room)
        if now != self._room:
            # Neither its threads nor what was said there can be named in the new one.
            self._room, self._thread, self._about, self._sent_here = now, "", "", set()

    def _check_here(self, message_id: str) -> None:
        self._look_where()
        if self._sent_here is not None and message_id not in self._sent_here:
            raise Missing(f"{message_id} stands in the room of before")


async def redact(client: MatrixClient, room: str, event: str) -> None:
    """Raises the exceptions of `glmbot.delivery.outlet`."""
    await ask(client.room_redact(room, event, tx_id=transaction("redact", room, event)))


def transaction(*names: str) -> str:
    """The same names are the same request, also of another process with this token."""
    return sha256("\n".join(names).encode()).hexdigest()[:32]
