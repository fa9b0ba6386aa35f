"""One answer's messages in a chat of QQ, and what refusals mean there."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence
from typing import Any, cast

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    NotWritten,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
)
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.plain import plain_text
from glmbot.keys import number_in
from glmbot.messages import Attachment, Message, Reply
from glmbot_onebot.line import Line
from glmbot_onebot.normalize import TEMPORARY, group_of
from glmbot_onebot.session import Failed

__all__ = ["LONGEST_TEXT", "PROFILE", "OneBotOutlet", "recall", "send_text"]

# "Allow up to 50 images or 5000 chars": verifyLength in
# https://github.com/mamoe/mirai/blob/dev/mirai-core/src/commonMain/kotlin/message/protocol/outgoing/OutgoingMessagePipelineContext.kt
LONGEST_TEXT = 5000
# Longer ones are folded up on a phone.
_SPLIT_AT = 3000
_NOTICE_ROOM = 400
# In base64 and JSON within what implementations take as one text.
_LARGEST_FILE = 8 << 20
# Results of QQ's own servers, by their numbers: GroupSendMessage's failures in
# https://github.com/mamoe/mirai/blob/dev/mirai-core/src/commonMain/kotlin/message/protocol/outgoing/OutgoingMessageProcessorAdapter.kt
_MUTED, _TOO_OFTEN, _ACCOUNT_LIMITED = 120, 299, 46
_RESULT = re.compile(r'"?result(?:Type|Code)?"?\s{0,3}[:=]\s{0,3}(?P<number>\d{1,6})', re.IGNORECASE)

PROFILE = Profile(frozenset({Ability.REMOVE, Ability.TYPING, Ability.FILE}), longest=LONGEST_TEXT)


class OneBotOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(self, line: Line, message: Message, *, flood_pause_s: float) -> None:
        """Raises ValueError where the conversation is none of QQ's."""
        self._line = line
        self._to = _target(message)
        self._private = "group_id" not in self._to or "user_id" in self._to
        self._flood_pause_s = flood_pause_s
        self._quotes = "" if self._private else message.ref

    @property
    def abilities(self) -> frozenset[Ability]:
        there = self._line.implementation
        without = set() if there.takes_files else {Ability.FILE}
        if not (self._private and there.shows_typing):
            without.add(Ability.TYPING)
        return PROFILE.abilities - without

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _SPLIT_AT, notice_room=_NOTICE_ROOM, measure=len, accepts=_fits)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        parts = [{"type": "reply", "data": {"id": self._quotes}}] if self._quotes else []
        if isinstance(item, Attachment):
            # A file is a message by itself.
            parts = [await _file(item)]
        else:
            parts.append(_text(item))
        try:
            sent = await self._line.ask(_action(self._to), **self._to, message=parts)
        except Failed as error:
            refusal = self._refusal(error)
            if isinstance(refusal, Refused) and self._quotes and not isinstance(item, Attachment):
                # The question may be gone.
                self._quotes = ""
                raise Reduced(str(error)) from error
            raise refusal from error
        if not isinstance(item, Attachment):
            self._quotes = ""
        return _id_of(sent)

    async def remove(self, message_id: str) -> None:
        await recall(self._line, message_id)

    async def typing(self) -> None:
        try:
            # https://napcat.apifox.cn/226659225e0: 1 is "is typing".
            await self._line.ask("set_input_status", user_id=str(self._to["user_id"]), event_type=1)
        except Failed as error:
            raise Refused(str(error)) from error

    def _refusal(self, error: Failed) -> NotWritten:
        found = _RESULT.search(error.words)
        result = int(found["number"]) if found else error.code
        if result == _TOO_OFTEN:
            return Flooded(self._flood_pause_s)
        if result in (_MUTED, _ACCOUNT_LIMITED) or "禁言" in error.words:
            return Closed(f"OneBot: {error}")
        if "timeout" in error.words.lower() or "超时" in error.words:
            return Unreachable(f"OneBot: {error}")
        return Refused(str(error))


async def send_text(line: Line, message: Message, words: str) -> None:
    """Raises NotWritten, Failed."""
    to = _target(message)
    await line.ask(_action(to), **to, message=[{"type": "text", "data": {"text": words}}])


async def recall(line: Line, message_id: str) -> None:
    """QQ lets a message be recalled for two minutes; after that, by a group's administrators alone."""
    try:
        await line.ask("delete_msg", message_id=number_in(message_id, signed=True))
    except (Failed, ValueError) as error:
        raise Refused(str(error)) from error


def _target(message: Message) -> dict[str, int]:
    """Raises ValueError."""
    chat = message.conversation.chat
    if group := group_of(chat):
        return {"group_id": number_in(group)}
    to = {"user_id": number_in(chat)}
    if through := message.origin.get(TEMPORARY):
        to["group_id"] = number_in(through)
    return to


def _action(to: dict[str, int]) -> str:
    return "send_private_msg" if "user_id" in to else "send_group_msg"


def _text(piece: Piece) -> dict[str, Any]:
    words = plain_text(piece.text) if piece.text else ""
    return {"type": "text", "data": {"text": "\n\n".join(filter(None, (words, piece.notice))) or "…"}}


async def _file(file: Attachment) -> dict[str, Any]:
    """Raises Refused for one that is too large."""
    if len(file.content) > _LARGEST_FILE:
        raise Refused(f"a file of {len(file.content)} bytes")
    content = await asyncio.to_thread(base64.b64encode, file.content)
    return {"type": "file", "data": {"file": f"base64://{content.decode()}", "name": file.name}}


def _id_of(sent: object) -> str:
    number = cast(dict[str, Any], sent).get("message_id") if isinstance(sent, dict) else None
    known = isinstance(number, int | str) and not isinstance(number, bool)
    return str(number)[:40] if known else "0"


def _fits(markdown: str) -> bool:
    return len(plain_text(markdown)) <= LONGEST_TEXT - _NOTICE_ROOM - 2
