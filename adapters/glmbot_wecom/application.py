"""One answer of an application: plain text that stays as it is, in WeCom's own request or sent by itself.

https://developer.work.weixin.qq.com/document/path/90236, https://developer.work.weixin.qq.com/document/path/90241.
Markdown is not shown to who reads in WeChat, and not by all that WeCom runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from glmbot.delivery.abilities import Ability
from glmbot.delivery.outlet import Gone, Outlet, Piece
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, Message, Reply
from glmbot_wecom.client import Client
from glmbot_wecom.delivery import check_file
from glmbot_wecom.passive import Passives
from glmbot_wecom.refusals import explained
from glmbot_wecom.render import LONGEST_TEXT, NOTICE_ROOM, fits_text, size, text_of_piece

__all__ = ["AppOutlet", "passive_reply"]

# Bytes; what it is rendered as must fit besides.
_SPLIT_AT = 1400
_LARGEST_FILE = 20 * 2**20
# What holds tags apart in the bot's own lines.
_TAGS_ROOM = 200
_ABILITIES = frozenset({Ability.FILE})


class AppOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(self, client: Client, message: Message, passives: Passives) -> None:
        self._client = client
        self._passives = passives
        self._user = message.conversation.chat
        self._update = message.update_id

    @property
    def abilities(self) -> frozenset[Ability]:
        return _ABILITIES

    def cut(self, reply: Reply) -> Sequence[Piece]:
        if not reply.text and size(reply.notice) > _SPLIT_AT:
            return [Piece("", part) for part in _parts(reply.notice)]
        return cut_reply(reply, _SPLIT_AT, notice_room=4 * NOTICE_ROOM, measure=size, accepts=fits_text)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            return await self._send("file", {"media_id": await self._upload(item)})
        words = text_of_piece(item)
        if self._passives.give(self._update, words):
            return "passive"
        return await self._send("text", {"content": words})

    async def _send(self, kind: str, content: Mapping[str, str]) -> str:
        body = {"touser": self._user, "msgtype": kind, "agentid": self._client.agent, kind: content}
        sent = await self._client.call("POST", "/cgi-bin/message/send", json=body)
        # It takes a message for whom it may not have, and says so beside: https://developer.work.weixin.qq.com/document/path/90236
        if self._user.lower() in str(sent.get("invaliduser", "")).lower().split("|"):
            raise Gone(f"WeCom: {explained(81013)}")
        return str(sent.get("msgid", ""))[:200] or "sent"

    async def _upload(self, file: Attachment) -> str:
        check_file(file, _LARGEST_FILE)

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            kind = "application/octet-stream"
            made.add_field("media", file.content, filename=file.name, content_type=kind)
            return made

        uploaded = await self._client.call("POST", "/cgi-bin/media/upload", {"type": "file"}, form=form)
        return str(uploaded.get("media_id", ""))[:1000]


def passive_reply(fields: Mapping[str, str], words: str, now: float) -> dict[str, Any]:
    """https://developer.work.weixin.qq.com/document/path/90241. fields: of the message."""
    return {
        "ToUserName": fields.get("FromUserName", ""),
        "FromUserName": fields.get("ToUserName", ""),
        "CreateTime": int(now),
        "MsgType": "text",
        "Content": words,
    }


def _parts(text: str) -> Iterator[str]:
    """Whole lines as long as they are short enough."""
    part, most = "", (LONGEST_TEXT - _TAGS_ROOM) // 4
    for line in text.splitlines(keepends=True):
        for begin in range(0, len(line), most):
            more = line[begin : begin + most]
            if size(part + more) > LONGEST_TEXT - _TAGS_ROOM:
                yield part
                part = ""
            part += more
    if part.strip():
        yield part
