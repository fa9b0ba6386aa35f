"""One answer's messages in Feishu: each is a card, which may be changed as often as it takes.

A message itself takes only some twenty edits; a card entity takes them without end, each with a number that grows:
https://open.feishu.cn/document/cardkit-v1/feishu-card-resource-overview
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Closed, Gone, Missing, Outlet, Piece, Reduced, Refused
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, ChatKind, Message, Press, Reply
from glmbot_feishu.cards import ANSWER, answer_of, card_of, streams
from glmbot_feishu.client import Client, Fields
from glmbot_feishu.normalize import button_value
from glmbot_feishu.refusals import CardRefused, OutOfOrder, QuestionGone, StreamClosed
from glmbot_feishu.render import LONGEST_TEXT, NOTICE_ROOM, fits

__all__ = ["PROFILE", "FeishuOutlet", "Sequences"]

_SPLIT_AT = 4000
_CARDS = "/open-apis/cardkit/v1/cards"
_MESSAGES = "/open-apis/im/v1/messages"
# https://open.feishu.cn/document/cardkit-v1/card-element/content: numbers of changes have 31 bits.
_LARGEST_NUMBER = 2**31 - 1

PROFILE = Profile(
    frozenset(
        {Ability.EDIT, Ability.REMOVE, Ability.BUTTONS, Ability.FILE, Ability.THREAD, Ability.MARKDOWN}
    ),
    longest=LONGEST_TEXT,
)


class Sequences:
    """Numbers that grow, also over a restart: tenths of seconds, and one more where that is not enough."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, int(self._clock() * 10) % _LARGEST_NUMBER)
        return self._last


class FeishuOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(self, client: Client, message: Message, sequences: Sequences) -> None:
        self._client = client
        self._sequences = sequences
        conversation = message.conversation
        self._chat, self._thread = conversation.chat, conversation.thread
        self._private = message.chat_kind is ChatKind.PRIVATE
        self._asker = conversation.user or message.user.id
        pressed = message.intent.ref if isinstance(message.intent, Press) else ""
        # In private nothing needs to be quoted, but a topic is found by what is replied to alone.
        self._question = (message.ref or pressed) if not self._private or self._thread else ""
        self._cards: dict[str, str] = {}
        self._written: dict[str, Piece] = {}
        # What Feishu refused the layout of.
        self._bare: set[Piece] = set()

    @property
    def abilities(self) -> frozenset[Ability]:
        return PROFILE.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=fits)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise TypeError("a file stands under a message that was sent before")
        made = await self._somehow(
            item, lambda card: self._client.call("POST", _CARDS, json={"type": "card_json", "data": card})
        )
        card = str(made["card_id"])
        sent = await self._say("interactive", {"type": "card", "data": {"card_id": card}})
        self._cards[sent] = card
        self._written[sent] = item
        return sent

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        if isinstance(item, Attachment):
            await self._attach(message_id, item)
            return
        card = await self._card_of(message_id)
        before = self._written.get(message_id)
        try:
            if before is not None and _grows(before, item) and item not in self._bare:
                await self._stream(card, answer_of(item))
            else:
                await self._write(card, item)
        except StreamClosed as error:
            # Too slow for it, or an earlier process ended it: then as a whole.
            self._written.pop(message_id, None)
            raise Reduced(str(error)) from error
        except OutOfOrder as error:
            raise Reduced(str(error)) from error
        self._written[message_id] = item

    async def remove(self, message_id: str) -> None:
        try:
            await self._client.call("DELETE", f"{_MESSAGES}/{message_id}")
        except QuestionGone as error:
            raise Missing(str(error)) from error
        except (Closed, Gone) as error:
            raise Refused(str(error)) from error

    async def _say(self, kind: str, content: Any, uuid: str = "") -> str:
        """A message of its own, in reply to the question where there is one."""
        body: dict[str, Any] = {"msg_type": kind, "content": json.dumps(content, ensure_ascii=False)}
        if uuid:
            body["uuid"] = uuid
        if self._question:
            body["reply_in_thread"] = bool(self._thread)
            try:
                sent = await self._client.call("POST", f"{_MESSAGES}/{self._question}/reply", json=body)
            except QuestionGone as error:
                if self._thread:
                    raise Gone(f"{error}, nor its topic") from error
                self._question = ""
                raise Reduced(str(error)) from error
        else:
            body["receive_id"] = self._chat
            sent = await self._client.call(
                "POST", _MESSAGES, params={"receive_id_type": "chat_id"}, json=body
            )
        return str(sent["message_id"])

    async def _card_of(self, message_id: str) -> str:
        """Of a message of an earlier process Feishu itself knows the card."""
        if message_id not in self._cards:
            try:
                found = await self._client.call(
                    "POST", f"{_CARDS}/id_convert", json={"message_id": message_id}
                )
            except (QuestionGone, CardRefused) as error:
                raise Missing(str(error)) from error
            self._cards[message_id] = str(found["card_id"])
        return self._cards[message_id]

    async def _stream(self, card: str, words: str) -> None:
        body = {"content": words, "sequence": self._sequences.next()}
        await self._client.call("PUT", f"{_CARDS}/{card}/elements/{ANSWER}/content", json=body)

    async def _write(self, card: str, piece: Piece) -> None:
        def request(data: str) -> Awaitable[Fields]:
            body = {"card": {"type": "card_json", "data": data}, "sequence": self._sequences.next()}
            return self._client.call("PUT", f"{_CARDS}/{card}", json=body)

        await self._somehow(piece, request)

    async def _somehow(self, piece: Piece, request: Callable[[str], Awaitable[Fields]]) -> Fields:
        bare = piece in self._bare
        values = [
            button_value(action.command, self._asker, self._thread, private=self._private)
            for action in piece.actions
        ]
        try:
            return await request(card_of(piece, values, bare=bare))
        except CardRefused as error:
            if bare:
                raise
            # Whatever Feishu has against the layout, the words must arrive.
            self._bare.add(piece)
            raise Reduced(str(error)) from error

    async def _attach(self, message_id: str, file: Attachment) -> None:
        """The file is a message of its own under the card, which says its name. Within an hour it is sent once."""

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            made.add_field("file_type", "stream")
            made.add_field("file_name", file.name)
            made.add_field("file", file.content, filename=file.name, content_type="application/octet-stream")
            return made

        uuid = hashlib.sha256(f"{message_id} {file.name}".encode()).hexdigest()[:40]
        try:
            uploaded = await self._client.call("POST", "/open-apis/im/v1/files", form=form)
            await self._say("file", {"file_key": str(uploaded["file_key"])}, uuid)
        except (Closed, Gone) as error:
            # Files have rights of their own.
            raise Refused(str(error)) from error
        await self._write(await self._card_of(message_id), Piece("", file.name))


def _grows(before: Piece, now: Piece) -> bool:
    """Whether nothing but the words has changed, in a card that streams."""
    same = (before.notice, before.actions) == (now.notice, now.actions)
    return same and streams(now) and bool(answer_of(before)) and bool(answer_of(now))
