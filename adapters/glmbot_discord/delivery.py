"""One answer's messages on Discord.

discord.py waits out ordinary rate limits by itself, bucket by bucket; longer ones come back as Flooded.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import discord

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import Flooded, Gone, Missing, NotWritten, Outlet, Piece, Refused, Unreachable
from glmbot.delivery.pieces import cut_reply
from glmbot.keys import number_in
from glmbot.messages import Attachment, Message, Reply
from glmbot_discord.normalize import CHANNEL, button_id, is_thread_of
from glmbot_discord.refusals import Expired, Partly, ThreadClosed, ask, code_of, reason_of
from glmbot_discord.render import LONGEST_CONTENT, NOTICE_ROOM, fits, fits_folded, render, render_thought

__all__ = ["PROFILE", "ChannelOutlet", "InteractionOutlet", "remove_answer"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Below the 2000 that Discord takes: small print and a table's code fence need room.
_SPLIT_AT = 1700
_NOBODY = discord.AllowedMentions.none()
_UNKNOWN_CHANNEL = 10003
_THREAD_EXISTS = 160004
_LONGEST_THREAD_NAME = 90
_THREAD_RESTS_MINUTES = 1440
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE_S = 60.0
_ORIGINAL: Any = "@original"

Words = Callable[[str], str]
"""A line of the bot's own by its name, in the language of whom it is for."""


class _Buttons(discord.ui.View):
    """Buttons whose presses come as plain interactions: discord.py keeps no object for each answer ever given."""

    def is_dispatchable(self) -> bool:
        return False


# With a nonce Discord itself drops a send that is repeated after a lost answer, or by the next process.
PROFILE = Profile(frozenset(Ability) - {Ability.DRAFT, Ability.APPEND}, longest=LONGEST_CONTENT)


class _Outlet(Outlet):
    @property
    def abilities(self) -> frozenset[Ability]:
        return PROFILE.abilities

    def __init__(self, message: Message, words: Words) -> None:
        self._asker = message.conversation.user or message.user.id
        self._thread = message.conversation.thread
        self._words = words

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(
            reply,
            _SPLIT_AT,
            notice_room=NOTICE_ROOM,
            measure=len,
            accepts=fits,
            fits_folded=lambda thought: fits_folded(thought, self._label()),
        )

    def _label(self) -> str:
        """What stands above a model's thoughts."""
        return " · ".join(self._words("answer.thought").split("\n"))

    def _content_of(self, piece: Piece) -> str:
        if piece.thought:
            return render_thought(piece.thought, self._label())
        return render(piece.text, piece.notice)

    def _buttons(self, piece: Piece) -> _Buttons | None:
        if not piece.actions:
            return None
        view = _Buttons(timeout=None)
        for action in piece.actions:
            custom_id = button_id(action.command, self._asker, self._thread)
            button: discord.ui.Button[_Buttons] = discord.ui.Button(label=action.label, custom_id=custom_id)
            view.add_item(button)
        return view

    def _without_file(self, attachment: Attachment, error: Exception) -> Piece:
        """What stands where a file was refused, so that the rest of the answer is not held up."""
        _log.warning("Discord: %s could not be attached: %s", attachment.name, error)
        return Piece("", self._words("discord.may_not_attach"))


class ChannelOutlet(_Outlet):
    """See `glmbot.delivery.outlet.Outlet`. Raises ValueError where the conversation is none of Discord's."""

    def __init__(
        self, client: discord.Client, message: Message, words: Words, *, explains: bool = True
    ) -> None:
        super().__init__(message, words)
        self._explains = explains
        self._client = client
        self._message = message
        conversation = message.conversation
        self._opens_thread = is_thread_of(message)
        stands_in = message.origin.get(CHANNEL) or conversation.thread or conversation.chat
        self._channel = client.get_partial_messageable(number_in(stands_in))
        in_group = bool(conversation.user) and bool(message.ref) and not self._opens_thread
        self._reference = _reference(int(message.ref), self._channel.id) if in_group else None
        name = f"{message.update_id} {conversation}"
        self._nonce = hashlib.sha256(name.encode()).hexdigest()[:18]
        # Messages that could not be edited any more; what stands in them is said anew below.
        self._left_behind: list[str] = []

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if self._opens_thread:
            await self._open_thread()
        try:
            sent = await self.in_open_thread(lambda: self._send_somehow(item, place))
        except (Gone, ThreadClosed) as error:
            await self._explain(error)
            raise Gone(str(error)) from error
        await self._clear_away()
        return sent

    async def _send_somehow(self, item: Piece | Attachment, place: str) -> str:
        """Without the part of it that was refused, where that is not the words themselves."""
        try:
            return await self._send(item, place, whole=True)
        except (Gone, Refused) as error:
            if isinstance(item, Attachment) and not isinstance(error, ThreadClosed):
                return await self._send(self._without_file(item, error), place, whole=False)
            if isinstance(error, Partly) or type(error) is Refused:
                _log.warning("Discord: without its reference and its buttons: %s", error)
                self._reference = None
                return await self._send(item, place, whole=False)
            raise

    async def _send(self, item: Piece | Attachment, place: str, *, whole: bool) -> str:
        extra: dict[str, Any] = {}
        if place == "0" and self._reference is not None and whole:
            extra["reference"] = self._reference
        if isinstance(item, Attachment):
            extra["file"] = _file(item)
        else:
            extra["content"] = self._content_of(item)
            if whole and (view := self._buttons(item)):
                extra["view"] = view
        sent = self._channel.send(
            **extra,
            mention_author=False,
            allowed_mentions=_NOBODY,
            nonce=f"{self._nonce}-{place}",
            suppress_embeds=True,
        )
        stands = await ask(sent)
        if isinstance(item, Piece) and stands.content.strip() != extra["content"].strip():
            # It was sent before, and whoever did that had other words; Discord keeps those.
            await self._edit(str(stands.id), item)
        return str(stands.id)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        try:
            await self.in_open_thread(lambda: self._edit(message_id, item))
        except ThreadClosed as error:
            # A message may be written where an old one can't be changed; it opens a thread that nobody locked.
            self._left_behind.append(message_id)
            raise Missing(str(error)) from error
        except Gone as error:
            if not (is_thread_of(self._message) and code_of(error.__cause__) == _UNKNOWN_CHANNEL):
                raise
            # No thread could be opened for it then, so that it stands in the channel.
            self._channel = self._client.get_partial_messageable(number_in(self._message.conversation.chat))
            await self._edit(message_id, item)

    async def _edit(self, message_id: str, item: Piece | Attachment) -> None:
        partial = self._channel.get_partial_message(int(message_id))
        if isinstance(item, Attachment):
            try:
                await ask(partial.edit(content=None, attachments=[_file(item)], allowed_mentions=_NOBODY))
                return
            except (Gone, Refused) as error:
                if isinstance(error, ThreadClosed):
                    raise
                item = self._without_file(item, error)
        content = self._content_of(item)
        try:
            await ask(partial.edit(content=content, allowed_mentions=_NOBODY, view=self._buttons(item)))
        except Partly:
            await ask(partial.edit(content=content, allowed_mentions=_NOBODY))

    async def remove(self, message_id: str) -> None:
        """What can't be deleted stays; that is no reason to hold up or to end an answer."""
        partial = self._channel.get_partial_message(int(message_id))
        try:
            await self.in_open_thread(lambda: ask(partial.delete()))
        except (Gone, Refused) as error:
            _log.warning("Discord: a message stays, as it could not be deleted: %s", error)
            raise Missing(str(error)) from error

    async def typing(self) -> None:
        if not self._opens_thread:
            await ask(self._client.http.send_typing(self._channel.id))

    async def in_open_thread(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Where a thread was archived meanwhile, it is opened again and the request repeated.

        Who may write in a thread may do that, unless a moderator has locked it
        (https://discord.com/developers/docs/topics/threads#editing-deleting-threads). Raises ThreadClosed.
        """
        try:
            return await request()
        except ThreadClosed as error:
            try:
                await ask(self._client.http.edit_channel(self._channel.id, archived=False))
            except (Gone, Refused, Missing, Unreachable) as refusal:
                _log.info("Discord: thread %d stays closed: %s", self._channel.id, refusal)
                raise error from error.__cause__
        return await request()

    async def _clear_away(self) -> None:
        left, self._left_behind = self._left_behind, []
        for message_id in left:
            with suppress(NotWritten):
                await ask(self._channel.get_partial_message(int(message_id)).delete())

    async def _open_thread(self) -> None:
        """Where threads can't be opened the answer goes into the channel, as a reply."""
        conversation, question = self._message.conversation, int(self._message.ref)
        channel = self._client.get_partial_messageable(number_in(conversation.chat))
        name = " ".join(self._message.text.split())[:_LONGEST_THREAD_NAME] or "…"
        try:
            await ask(
                self._client.http.start_thread_with_message(
                    channel.id, question, name=name, auto_archive_duration=_THREAD_RESTS_MINUTES
                )
            )
        except (Gone, Refused, Missing) as error:
            if code_of(error.__cause__) != _THREAD_EXISTS:
                _log.warning("Discord: no thread could be opened in channel %s: %s", conversation.chat, error)
                self._channel = channel
                self._reference = _reference(question, channel.id)
        self._opens_thread = False

    async def _explain(self, error: Exception) -> None:
        """In private, why nothing comes where the bot may not write; nothing where we don't know why."""
        reason = reason_of(error)
        if not self._explains or not self._message.conversation.user or reason is None:
            return
        _log.warning("Discord: the bot may not write in channel %d: %s", self._channel.id, error)
        try:
            user = await ask(self._client.fetch_user(number_in(self._message.user.id)))
            await ask(user.send(self._words(reason), allowed_mentions=_NOBODY))
        except NotWritten as refusal:
            _log.debug("Discord: nor to its asker: %s", refusal)


class InteractionOutlet(_Outlet):
    """The answer to a slash command that was acknowledged already: its first message replaces that.

    The token lives for 15 minutes (https://discord.com/developers/docs/interactions/receiving-and-responding);
    then a public answer goes on in the channel, and one for a single person's eyes ends.
    """

    def __init__(self, client: discord.Client, message: Message, words: Words) -> None:
        super().__init__(message, words)
        self._ephemeral = bool(message.origin["ephemeral"])
        # What discord.py makes of a live interaction, which a restart no longer has.
        data: Any = {"id": client.application_id, "type": 3, "token": message.origin["token"]}
        self._webhook = discord.Webhook.from_state(data=data, state=client._connection)
        # The answer began where it was asked for; why it can't go on there without a token is nobody's mistake.
        self._channel = ChannelOutlet(client, message, words, explains=False)
        self._answered = False

    @property
    def abilities(self) -> frozenset[Ability]:
        """The first message is an edit of the acknowledgement; those after it have no nonce."""
        return PROFILE.abilities - ({Ability.ONCE} if self._answered else set())

    async def send(self, item: Piece | Attachment, place: str) -> str:
        self._answered = True
        try:
            if place == "0":
                with suppress(Missing):  # the acknowledgement was deleted: then it is a message of its own
                    return await self._somehow(item, self._edit_acknowledgement)
            return await self._somehow(item, self._send_another)
        except Expired as error:
            self._keep_private(error)
            return await self._channel.send(item, place)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._answered = True
        try:
            await self._somehow(item, lambda content: self._edit_message(int(message_id), content))
        except Expired as error:
            self._keep_private(error)
            await self._channel.edit(message_id, item)

    async def remove(self, message_id: str) -> None:
        try:
            await ask(self._webhook.delete_message(int(message_id)))
        except Expired as error:
            self._keep_private(error)
            await self._channel.remove(message_id)
        except (Gone, Refused) as error:
            _log.warning("Discord: a message stays, as it could not be deleted: %s", error)
            raise Missing(str(error)) from error

    async def typing(self) -> None:
        """Discord shows that the bot is thinking."""

    async def end_unanswered(self) -> None:
        """Nothing is to be said here: the bot thinks no longer, and who asked is told alone."""
        words = self._words("discord.not_let_in")
        with suppress(NotWritten):
            if self._ephemeral:
                await ask(self._webhook.edit_message(_ORIGINAL, content=words, allowed_mentions=_NOBODY))
                return
            await ask(self._webhook.delete_message(_ORIGINAL))
            await ask(self._webhook.send(words, ephemeral=True, wait=True, allowed_mentions=_NOBODY))

    async def _somehow(
        self, item: Piece | Attachment, request: Callable[[dict[str, Any]], Awaitable[str]]
    ) -> str:
        """Without the part of it that was refused, where that is not the words themselves."""
        try:
            return await self._channel.in_open_thread(lambda: request(self._content(item)))
        except Expired:
            raise
        except ThreadClosed as error:
            raise Gone(str(error)) from error
        except (Gone, Refused) as error:
            if isinstance(item, Attachment):
                return await request(self._content(self._without_file(item, error)))
            if isinstance(error, Partly) and item.actions:
                return await request(self._content(Piece(item.text, item.notice)))
            raise

    async def _edit_acknowledgement(self, content: dict[str, Any]) -> str:
        return await self._edit_message(_ORIGINAL, content)

    async def _edit_message(self, message_id: int, content: dict[str, Any]) -> str:
        if (file := content.pop("file", None)) is not None:
            content |= {"content": None, "attachments": [file]}
        return str((await ask(self._webhook.edit_message(message_id, **content))).id)

    async def _send_another(self, content: dict[str, Any]) -> str:
        given = {name: value for name, value in content.items() if value is not None}
        return str((await ask(self._webhook.send(ephemeral=self._ephemeral, wait=True, **given))).id)

    def _content(self, item: Piece | Attachment) -> dict[str, Any]:
        if isinstance(item, Attachment):
            return {"file": _file(item), "allowed_mentions": _NOBODY}
        content = self._content_of(item)
        return {"content": content, "allowed_mentions": _NOBODY, "view": self._buttons(item)}

    def _keep_private(self, error: Expired) -> None:
        """Raises Gone where nobody else may see the answer."""
        if self._ephemeral:
            raise Gone(str(error)) from error


async def remove_answer(channels: Sequence[discord.PartialMessageable], message_ids: Iterable[str]) -> None:
    """Delete what an answer that nobody wants any more stands in, in the first of the channels where it does; what
    can't be deleted stays."""
    for message_id in message_ids:
        for channel in channels:
            try:
                await _insist(lambda c=channel, m=int(message_id): c.get_partial_message(m).delete())
                break
            except Missing:
                continue
            except (Flooded, Gone, Refused, Unreachable) as error:
                if code_of(error.__cause__) != _UNKNOWN_CHANNEL:
                    _log.warning("Discord: an answer that is not wanted any more stays: %s", error)


async def _insist(request: Callable[[], Awaitable[None]]) -> None:
    for pause in _PAUSES_S:
        try:
            await ask(request())
            return
        except Flooded as flood:
            await asyncio.sleep(min(flood.retry_after, _LONGEST_PAUSE_S))
        except Unreachable:
            await asyncio.sleep(pause)
    await ask(request())


def _file(attachment: Attachment) -> discord.File:
    return discord.File(io.BytesIO(attachment.content), attachment.name)


def _reference(message: int, channel: int) -> discord.MessageReference:
    return discord.MessageReference(message_id=message, channel_id=channel, fail_if_not_exists=False)
