"""One answer's messages on Discord, and what Discord's refusals mean.

discord.py waits out ordinary rate limits by itself, bucket by bucket; longer ones come back as Flooded.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import aiohttp
import discord

from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.stream import Flooded, Gone, Missing, Piece, Refused, Unreachable
from glmbot.messages import Attachment, Message, Reply
from glmbot_discord.normalize import button_id, is_thread_of
from glmbot_discord.render import NOTICE_ROOM, fits, render

__all__ = ["ChannelOutlet", "InteractionOutlet"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Below the 2000 that Discord takes: small print and a table's code fence need room.
_SPLIT_AT = 1700
_NOBODY = discord.AllowedMentions.none()
_UNKNOWN_MESSAGE = 10008
_THREAD_EXISTS = 160004
# An interaction's token after 15 minutes: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
_EXPIRED = (50027, 10015, 10062)
_LONGEST_THREAD_NAME = 90
_THREAD_RESTS_MINUTES = 1440
_ORIGINAL: Any = "@original"


class _Buttons(discord.ui.View):
    """Buttons whose presses come as plain interactions: discord.py keeps no object for each answer ever given."""

    def is_dispatchable(self) -> bool:
        return False


class _Outlet:
    drafts = False

    def __init__(self, message: Message) -> None:
        self._asker = message.conversation.user or message.user.id

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=len, accepts=fits)

    def _buttons(self, piece: Piece) -> _Buttons | None:
        if not piece.actions:
            return None
        view = _Buttons(timeout=None)
        for action in piece.actions:
            custom_id = button_id(action.command, self._asker)
            button: discord.ui.Button[_Buttons] = discord.ui.Button(label=action.label, custom_id=custom_id)
            view.add_item(button)
        return view

    async def draft(self, piece: Piece) -> None:
        raise NotImplementedError


class ChannelOutlet(_Outlet):
    """See `glmbot.delivery.stream.Outlet`."""

    sends_once = True

    def __init__(self, client: discord.Client, message: Message) -> None:
        super().__init__(message)
        self._client = client
        self._message = message
        conversation = message.conversation
        self._opens_thread = is_thread_of(message)
        self._channel = client.get_partial_messageable(conversation.thread or conversation.chat)
        in_group = bool(conversation.user) and bool(message.ref) and not self._opens_thread
        self._reference = _reference(int(message.ref), self._channel.id) if in_group else None
        # With a nonce Discord itself drops a send that is repeated after a lost answer, or by the next process.
        name = f"{message.update_id} {conversation}"
        self._nonce = hashlib.sha256(name.encode()).hexdigest()[:18]

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if self._opens_thread:
            await self._open_thread()
        extra: dict[str, Any] = {"reference": self._reference} if place == "0" and self._reference else {}
        if isinstance(item, Attachment):
            extra["file"] = _file(item)
        else:
            extra["content"] = render(item.text, item.notice)
            if view := self._buttons(item):
                extra["view"] = view
        try:
            sent = await _ask(
                self._channel.send(
                    **extra,
                    mention_author=False,
                    allowed_mentions=_NOBODY,
                    nonce=f"{self._nonce}-{place}",
                    suppress_embeds=True,
                )
            )
        except Gone:
            await self._explain()
            raise
        return str(sent.id)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._opens_thread = False
        partial = self._channel.get_partial_message(int(message_id))
        if isinstance(item, Attachment):
            await _ask(partial.edit(content=None, attachments=[_file(item)], allowed_mentions=_NOBODY))
            return
        content = render(item.text, item.notice)
        await _ask(partial.edit(content=content, allowed_mentions=_NOBODY, view=self._buttons(item)))

    async def remove(self, message_id: str) -> None:
        await _ask(self._channel.get_partial_message(int(message_id)).delete())

    async def typing(self) -> None:
        if not self._opens_thread:
            await _ask(self._client.http.send_typing(self._channel.id))

    async def _open_thread(self) -> None:
        """Where threads can't be opened the answer goes into the channel, as a reply."""
        conversation, question = self._message.conversation, int(self._message.ref)
        channel = self._client.get_partial_messageable(conversation.chat)
        name = " ".join(self._message.text.split())[:_LONGEST_THREAD_NAME] or "…"
        try:
            await _ask(
                self._client.http.start_thread_with_message(
                    channel.id, question, name=name, auto_archive_duration=_THREAD_RESTS_MINUTES
                )
            )
        except (Gone, Refused, Missing) as error:
            cause = error.__cause__
            if not (isinstance(cause, discord.HTTPException) and cause.code == _THREAD_EXISTS):
                _log.warning("Discord: no thread could be opened in channel %d: %s", conversation.chat, error)
                self._channel = channel
                self._reference = _reference(question, channel.id)
        self._opens_thread = False

    async def _explain(self) -> None:
        """In private, why nothing comes where the bot may not write."""
        if self._message.conversation.user == 0:
            return
        _log.warning("Discord: the bot may not write in channel %d", self._channel.id)
        try:
            user = await self._client.fetch_user(self._message.user.id)
            await user.send(
                "I may not write in that channel: give me “Send Messages” there.\n"
                "我没有在那个频道发言的权限：请给我“发送消息”权限。"
            )
        except discord.HTTPException as error:
            _log.debug("Discord: nor to its asker: %s", error)


class InteractionOutlet(_Outlet):
    """The answer to a slash command that was acknowledged already: its first message replaces that.

    The token lives for 15 minutes (https://discord.com/developers/docs/interactions/receiving-and-responding);
    then a public answer goes on in the channel, and one for a single person's eyes ends.
    """

    def __init__(self, client: discord.Client, message: Message) -> None:
        super().__init__(message)
        self._ephemeral = bool(message.origin["ephemeral"])
        # What discord.py makes of a live interaction, which a restart no longer has.
        data: Any = {"id": client.application_id, "type": 3, "token": message.origin["token"]}
        self._webhook = discord.Webhook.from_state(data=data, state=client._connection)
        self._channel = ChannelOutlet(client, message)
        self._answered = False

    @property
    def sends_once(self) -> bool:
        """The first message is an edit of the acknowledgement; those after it have no nonce."""
        return not self._answered

    async def send(self, item: Piece | Attachment, place: str) -> str:
        self._answered = True
        content = self._content(item)
        try:
            if place == "0":
                return str((await self._try(self._webhook.edit_message(_ORIGINAL, **content))).id)
            content = {name: value for name, value in content.items() if value is not None}
            sent = self._webhook.send(ephemeral=self._ephemeral, wait=True, **content)
            return str((await self._try(sent)).id)
        except _Expired:
            return await self._channel.send(item, place)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._answered = True
        content: dict[str, Any]
        if isinstance(item, Attachment):
            content = {"content": None, "attachments": [_file(item)], "allowed_mentions": _NOBODY}
        else:
            content = self._content(item)
        try:
            await self._try(self._webhook.edit_message(int(message_id), **content))
        except _Expired:
            await self._channel.edit(message_id, item)

    def _content(self, item: Piece | Attachment) -> dict[str, Any]:
        if isinstance(item, Attachment):
            return {"file": _file(item), "allowed_mentions": _NOBODY}
        content = render(item.text, item.notice)
        return {"content": content, "allowed_mentions": _NOBODY, "view": self._buttons(item)}

    async def remove(self, message_id: str) -> None:
        try:
            await self._try(self._webhook.delete_message(int(message_id)))
        except _Expired:
            await self._channel.remove(message_id)

    async def typing(self) -> None:
        """Discord shows that the bot is thinking."""

    async def _try(self, request: Awaitable[_T]) -> _T:
        """Raises _Expired, or Gone where nobody else may see the answer."""
        try:
            return await _ask(request)
        except (Gone, Refused) as error:
            cause = error.__cause__
            if isinstance(cause, discord.HTTPException) and cause.code in _EXPIRED:
                if self._ephemeral:
                    raise Gone("the interaction has expired") from cause
                raise _Expired from cause
            raise


class _Expired(Exception):
    pass


def _file(attachment: Attachment) -> discord.File:
    return discord.File(io.BytesIO(attachment.content), attachment.name)


def _reference(message: int, channel: int) -> discord.MessageReference:
    return discord.MessageReference(message_id=message, channel_id=channel, fail_if_not_exists=False)


async def _ask(request: Awaitable[_T]) -> _T:
    try:
        return await request
    except discord.RateLimited as error:
        raise Flooded(error.retry_after) from error
    except discord.NotFound as error:
        if error.code == _UNKNOWN_MESSAGE:
            raise Missing(str(error)) from error
        raise Gone(str(error)) from error
    except discord.Forbidden as error:
        raise Gone(str(error)) from error
    except discord.HTTPException as error:
        if error.status == 429:
            raise Flooded(float(getattr(error, "retry_after", 5.0))) from error
        if error.status >= 500:
            raise Unreachable(f"Discord: {error}") from error
        raise Refused(str(error)) from error
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise Unreachable(f"Discord: {error}") from error
