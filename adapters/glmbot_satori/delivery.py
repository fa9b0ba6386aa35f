"""One answer's messages in a channel of Satori's."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, cast

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Closed, Missing, Outlet, Piece, Reduced, Refused
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.plain import plain_text
from glmbot.messages import Attachment, ChatKind, Message, Reply
from glmbot_satori.client import Client
from glmbot_satori.elements import escaped
from glmbot_satori.normalize import BELOW, CHANNEL, SELF, Login

__all__ = ["PROFILE", "SatoriOutlet"]

_NOTICE_ROOM = 400
_LARGEST_FILE = 8 << 20
_ABILITIES = {"message.update": Ability.EDIT, "message.delete": Ability.REMOVE}

PROFILE = Profile(frozenset({Ability.EDIT, Ability.REMOVE, Ability.FILE}), longest=1800)


class SatoriOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`. login: what the bot can on that platform."""

    def __init__(self, client: Client, message: Message, login: Login, longest: int) -> None:
        """Raises KeyError where it is not known where to answer."""
        self._client = client
        self._platform, self._self_id = message.origin[BELOW], message.origin[SELF]
        self._channel = message.origin[CHANNEL]
        self._longest = longest
        can = {ability for feature, ability in _ABILITIES.items() if feature in login.features}
        self._abilities = frozenset({Ability.FILE, *can})
        self._quotes = "" if message.chat_kind is ChatKind.PRIVATE else message.ref

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        room = self._longest - min(_NOTICE_ROOM, self._longest // 2)
        return cut_reply(
            reply,
            room,
            notice_room=self._longest - room - 2,
            measure=len,
            accepts=lambda markdown: len(plain_text(markdown)) <= room,
        )

    async def send(self, item: Piece | Attachment, place: str) -> str:
        content = await _content(item)
        quoted = bool(self._quotes) and not isinstance(item, Attachment)
        if quoted:
            content = f'<quote id="{escaped(self._quotes)}"/>{content}'
        try:
            sent = await self._call("message.create", content=content)
        except (Refused, Missing) as error:
            if quoted:
                # The question may be gone.
                self._quotes = ""
                raise Reduced(str(error)) from error
            raise Refused(str(error)) from error
        if quoted:
            self._quotes = ""
        return _id_of(sent)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        content = await _content(item)
        try:
            await self._call("message.update", message_id=message_id, content=content)
        except Closed as error:
            if isinstance(item, Attachment):
                raise Refused(str(error)) from error
            raise

    async def remove(self, message_id: str) -> None:
        try:
            await self._call("message.delete", message_id=message_id)
        except Closed as error:
            raise Refused(str(error)) from error

    async def _call(self, method: str, **params: object) -> Any:
        return await self._client.call(
            self._platform, self._self_id, method, channel_id=self._channel, **params
        )


async def _content(item: Piece | Attachment) -> str:
    """Raises Refused for a file that is too large."""
    if isinstance(item, Attachment):
        if len(item.content) > _LARGEST_FILE:
            raise Refused(f"a file of {len(item.content)} bytes")
        data = await asyncio.to_thread(base64.b64encode, item.content)
        kind = item.media_type.partition(";")[0]
        return f'<file src="data:{escaped(kind)};base64,{data.decode()}" title="{escaped(item.name)}"/>'
    words = plain_text(item.text) if item.text else ""
    return escaped("\n\n".join(filter(None, (words, item.notice))) or "…")


def _id_of(sent: object) -> str:
    """One content may become several messages; the first is edited."""
    if isinstance(sent, list) and sent:
        sent = cast(list[object], sent)[0]
    given = cast(dict[str, Any], sent).get("id") if isinstance(sent, dict) else None
    known = isinstance(given, int | str) and not isinstance(given, bool)
    return str(given)[:500] if known else "0"
