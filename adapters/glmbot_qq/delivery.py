"""One answer's messages in QQ: replies to the question, as many and as long as QQ takes those; then messages of
the bot's own, where the settings and QQ allow them.

https://bot.q.qq.com/wiki/develop/api-v2/autogen/api/v2_groups_group_openid_messages.post.html and, in guilds,
https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/post_messages.html. Nothing that was sent can be
changed. That the bot is typing (msg_type 6) is not shown: others have found it counted as a reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Closed, Flooded, Gone, Outlet, Piece, Reduced, Refused, Unreachable
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, Message, Press, Reply, is_anybodys
from glmbot_qq.client import Client, quoted
from glmbot_qq.normalize import EVENT, Scene, button_data, scene_of
from glmbot_qq.refusals import ADDRESS_REFUSED, BUTTONS_REFUSED, DOUBLED, ENDED, MARKDOWN_REFUSED, Coded
from glmbot_qq.render import (
    LONGEST_TEXT,
    NOTICE_ROOM,
    Addresses,
    markdown_fits,
    plain_fits,
    to_markdown,
    to_plain,
)
from glmbot_qq.replies import MOST_REPLIES, SPLIT_AT
from glmbot_qq.settings import QQSettings
from glmbot_qq.upload import uploaded

__all__ = ["PROFILE", "QQOutlet", "path_of"]

# "按钮文字，最多 10 字符"; "最多可以发送 5 行按钮，每一行最多 5 个按钮".
_LONGEST_LABEL, _MOST_ROWS, _IN_A_ROW = 10, 5, 5
# Of one answer that was begun again: its messages have other numbers than those of the first try.
_ANEW = 1000
_SHIFT = 1_000_000
_NEW_KIND = (Scene.USER, Scene.GROUP)
_LONGEST_ID = 300
# msg_type.
_TEXT, _MARKDOWN, _MEDIA = 0, 2, 7
_CUT = {
    "en": "QQ lets me answer a message {most} times only, so the rest of this does not fit. Ask me for it.",
    "zh": "QQ 只允许对一条消息回复 {most} 次，后面的放不下了，要看请再问我。",
}

PROFILE = Profile(
    frozenset({Ability.ONCE, Ability.BUTTONS, Ability.FILE, Ability.MARKDOWN}), longest=LONGEST_TEXT
)


class QQOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`. sent: messages of this answer that an earlier process sent."""

    def __init__(self, client: Client, message: Message, settings: QQSettings, sent: int = 0) -> None:
        self._client = client
        self._chat = message.conversation.chat
        self._path = path_of(self._chat)
        scene, _ = scene_of(self._chat)
        self._new_kind = scene in _NEW_KIND
        self._private = not message.conversation.user
        self._asker = message.conversation.user or message.user.id
        self._question = message.about if isinstance(message.intent, Press) else message.ref
        self._language = message.language
        self._replies_to = _replied(message)
        self._most = MOST_REPLIES.get(scene)
        self._sent = sent
        self._active = settings.active_messages
        self._markdown = settings.markdown
        self._buttons = settings.markdown and settings.buttons and self._new_kind
        self._addresses = Addresses.WHOLE
        # Messages of which QQ has just said that it did not take them.
        self._not_taken: set[str] = set()
        self._shifts: dict[str, int] = {}

    @property
    def abilities(self) -> frozenset[Ability]:
        can: set[Ability] = {Ability.MARKDOWN} if self._markdown else set()
        if self._buttons:
            can.add(Ability.BUTTONS)
        if self._new_kind:
            # "仅用于在 QQ 单聊和 QQ 群聊内": rich-media.html.
            can.add(Ability.FILE)
        if self._new_kind and "msg_id" in self._replies_to:
            # "相同的 msg_id + msg_seq 重复发送会失败". Of events and guilds nothing such is said.
            can.add(Ability.ONCE)
        return frozenset(can)

    def cut(self, reply: Reply) -> Sequence[Piece]:
        pieces = cut_reply(reply, SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=self._fits)
        return self._within_replies(pieces) if reply.state.ended else pieces

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if not self._replies_to and not self._active:
            raise Refused("[qq] active_messages is off, and there is nothing to reply to")
        number = self._number(place)
        body = await self._file(item) if isinstance(item, Attachment) else self._content(item)
        if self._replies_to:
            body |= {**self._replies_to, **({"msg_seq": number} if self._new_kind else {})}
        try:
            sent = await self._client.call("POST", f"{self._path}/messages", body)
        except Coded as error:
            if not self._was_taken(error, place):
                self._not_taken.add(place)
                raise self._meaning(error) from error
            sent = {}
        except Flooded:
            self._not_taken.add(place)
            raise
        except Unreachable:
            self._not_taken.discard(place)
            raise
        self._sent += 1
        name = sent.get("id")
        return name[:_LONGEST_ID] if isinstance(name, str) and name else f"reply{number}"

    # ---- what fits -------------------------------------------------------------------------------------------

    def _fits(self, markdown: str) -> bool:
        if self._markdown:
            return markdown_fits(markdown)
        return plain_fits(markdown, guild=not self._new_kind)

    def _within_replies(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Where there are replies alone, what is beyond them is told to be missing."""
        if self._most is None or not self._replies_to or self._may_be_active():
            return pieces
        room = max(self._most - self._sent, 1)
        if len(pieces) <= room:
            return pieces
        *before, last = pieces[:room]
        words = _CUT.get(self._language, _CUT["en"]).format(most=self._most)
        notice = "\n".join(filter(None, (words, pieces[-1].notice)))[:NOTICE_ROOM]
        return [*before, replace(last, notice=notice, actions=pieces[-1].actions)]

    def _may_be_active(self) -> bool:
        return self._active and self._client.may_be_active(self._chat)

    # ---- requests --------------------------------------------------------------------------------------------

    def _number(self, place: str) -> int:
        """msg_seq: the same for the same place, in another process, too."""
        index, _, anew = place.partition(".")
        return 1 + int(index) + _ANEW * int(anew or 0) + _SHIFT * self._shifts.get(place, 0)

    async def _file(self, file: Attachment) -> dict[str, Any]:
        """A message by itself. Raises Refused where there can be none."""
        try:
            return {
                "msg_type": _MEDIA,
                "media": {"file_info": await uploaded(self._client, self._path, file)},
            }
        except (Closed, Gone) as error:
            # Files have rights of their own.
            raise Refused(str(error)) from error

    def _content(self, piece: Piece) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if self._new_kind:
            body["msg_type"] = _MARKDOWN if self._markdown else _TEXT
        if not self._markdown:
            words = to_plain(
                piece.text, piece.notice, self._addresses, self._language, guild=not self._new_kind
            )
            return body | {"content": words}
        words = to_markdown(piece.text, piece.notice, self._addresses, self._language)
        body["markdown"] = {"content": words}
        if self._buttons and piece.actions:
            keys = self._keys(piece)
            rows = [{"buttons": keys[at : at + _IN_A_ROW]} for at in range(0, len(keys), _IN_A_ROW)]
            body["keyboard"] = {"content": {"rows": rows[:_MOST_ROWS]}}
        return body

    def _keys(self, piece: Piece) -> Sequence[Mapping[str, Any]]:
        """https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/trans/msg-btn.html: 1 is a button that the
        bot is told of; 0 is for those named, 2 for all."""
        own = {"type": 0, "specify_user_ids": [self._asker]}
        return [
            {
                "id": action.command,
                "render_data": {
                    "label": action.label[:_LONGEST_LABEL],
                    "visited_label": action.label[:_LONGEST_LABEL],
                    "style": 1,
                },
                "action": {
                    "type": 1,
                    "permission": {"type": 2} if self._private or is_anybodys(action.command) else own,
                    "data": button_data(action.command, self._asker, self._question),
                    "unsupport_tips": f"/{action.command}",
                },
            }
            for action in piece.actions
        ]

    # ---- refusals --------------------------------------------------------------------------------------------

    def _was_taken(self, error: Coded, place: str) -> bool:
        """Whether QQ has this very message. Where it has just refused it, it has the number alone: another is
        tried."""
        if not DOUBLED & error.codes:
            return False
        if place not in self._not_taken:
            return True
        self._shifts[place] = self._shifts.get(place, 0) + 1
        raise Reduced(str(error)) from error

    def _meaning(self, error: Coded) -> Refused | Reduced:
        if MARKDOWN_REFUSED & error.codes and self._markdown:
            self._markdown = self._buttons = False
            return Reduced(str(error))
        if BUTTONS_REFUSED & error.codes and self._buttons:
            self._buttons = False
            return Reduced(str(error))
        if ADDRESS_REFUSED & error.codes and self._addresses < Addresses.NO_NAMES:
            self._addresses = Addresses(self._addresses + 1)
            return Reduced(str(error))
        if ENDED & error.codes and self._replies_to:
            if self._may_be_active():
                self._replies_to = {}
                return Reduced(str(error))
            return Refused(f"QQ takes no more replies to this message, too late or too many: {error}")
        if not self._replies_to:
            self._client.close_active(self._chat)
            return Refused(f"no reply was possible any more, and no message of the bot's own: {error}")
        return error


def path_of(chat: str) -> str:
    """Where QQ has the messages of a chat, and files on their way to it."""
    scene, place = scene_of(chat)
    return f"{'/v2' if scene in _NEW_KIND else ''}/{scene}/{quoted(place)}"


def _replied(message: Message) -> Mapping[str, str]:
    """What is answered; nothing where nobody asked."""
    if event := message.origin.get(EVENT):
        return {"event_id": event}
    return {"msg_id": message.ref} if message.ref else {}
