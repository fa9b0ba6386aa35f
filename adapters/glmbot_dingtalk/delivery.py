"""One answer's messages in DingTalk: each is an AI card, which streams while it grows.

https://open.dingtalk.com/document/orgapp/create-and-deliver-cards,
https://open.dingtalk.com/document/isvapp/api-streamingupdate. A session's webhook, the other way to answer, ends
after some minutes, and what it says can't be edited: it is not used.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Closed, Outlet, Piece
from glmbot.delivery.pieces import cut_reply
from glmbot.http.fields import Fields, fields_of, objects_in
from glmbot.messages import Attachment, ChatKind, Message, Reply
from glmbot_dingtalk.client import Client, words_in
from glmbot_dingtalk.normalize import button_id
from glmbot_dingtalk.render import LONGEST_TEXT, NOTICE_ROOM, escaped, fits, render

__all__ = ["PROFILE", "DingTalkOutlet"]

_SPLIT_AT = 4000
_CARDS = "/v1.0/card/instances"
# https://open.dingtalk.com/document/dingstart/ai-card-template: what the card shows besides its words.
_GROWS, _ENDED = "2", "3"
_ORDER = ["msgTitle", "msgContent", "staticMsgContent", "msgTextList", "msgImages", "msgSlider", "msgButtons"]

# DingTalk takes only some kinds of files from robots, and gives no way to take a card back.
PROFILE = Profile(frozenset({Ability.EDIT, Ability.BUTTONS, Ability.MARKDOWN}), longest=LONGEST_TEXT)


class DingTalkOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`. A message's id is the card's, which we choose."""

    def __init__(self, client: Client, message: Message, template: str) -> None:
        self._client = client
        self._template = template
        self._private = message.chat_kind is ChatKind.PRIVATE
        self._chat = message.conversation.chat
        self._asker = message.conversation.user or message.user.id
        self._written: dict[str, Piece] = {}

    @property
    def abilities(self) -> frozenset[Ability]:
        return PROFILE.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=fits)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise TypeError("there are no files")
        name = uuid.uuid4().hex
        space = f"IM_ROBOT.{self._chat}" if self._private else f"IM_GROUP.{self._chat}"
        where: dict[str, Any] = (
            {"imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT", "robotCode": self._client.robot}}
            if self._private
            else {"imGroupOpenDeliverModel": {"robotCode": self._client.robot}}
        )
        body = {
            "cardTemplateId": self._template,
            "outTrackId": name,
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": self._content(item)},
            "openSpaceId": f"dtv1.card//{space}",
            "userIdType": 1,
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imRobotOpenSpaceModel": {"supportForward": True},
            **where,
        }
        _check_delivered(await self._client.call("POST", f"{_CARDS}/createAndDeliver", body))
        self._written[name] = item
        return name

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        if isinstance(item, Attachment):
            raise TypeError("there are no files")
        before = self._written.get(message_id)
        if before is not None and _grows(before, item):
            body: dict[str, Any] = {
                "outTrackId": message_id,
                "guid": uuid.uuid4().hex,
                "key": "msgContent",
                "content": _words(item),
                "isFull": True,
                "isFinalize": False,
                "isError": False,
            }
            await self._client.call("PUT", "/v1.0/card/streaming", body)
        else:
            body = {"outTrackId": message_id, "cardData": {"cardParamMap": self._content(item)}}
            await self._client.call("PUT", _CARDS, body)
        self._written[message_id] = item

    def _content(self, piece: Piece) -> dict[str, str]:
        whole: dict[str, Any] = {"order": _ORDER}
        if piece.actions:
            chat = "" if self._private else self._chat
            whole["msgButtons"] = [
                {
                    "text": action.label,
                    "color": "blue",
                    "id": button_id(action.command, chat, self._asker),
                    "request": True,
                }
                for action in piece.actions
            ]
        return {
            "msgContent": _words(piece),
            "staticMsgContent": escaped(piece.notice),
            "flowStatus": _GROWS if _streams(piece) else _ENDED,
            "sys_full_json_obj": json.dumps(whole, ensure_ascii=False),
        }


def _check_delivered(made: Fields) -> None:
    """A card that is made, and does not come into its chat, is no error to DingTalk. Raises Closed."""
    for each in objects_in(fields_of(made, "result").get("deliverResults")):
        if each.get("success") is False:
            raise Closed(f"DingTalk: a card was not delivered: {words_in(each, 'errorMsg')}")


def _words(piece: Piece) -> str:
    return render(piece.text) or ("" if piece.notice else "…")


def _streams(piece: Piece) -> bool:
    """An answer grows as long as it can be stopped."""
    return any(action.command == "stop" for action in piece.actions)


def _grows(before: Piece, now: Piece) -> bool:
    """Whether nothing but the words has changed, in a card that streams."""
    return (before.notice, before.actions) == (now.notice, now.actions) and _streams(now)
