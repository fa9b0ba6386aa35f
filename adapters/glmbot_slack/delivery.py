"""One answer's messages in Slack.

What Slack allows: https://docs.slack.dev/apis/web-api/rate-limits (chat.update is of tier 3, so 50 a minute in a
workspace; chat.appendStream of tier 4, so 100; chat.postMessage about one a second in a channel);
https://docs.slack.dev/reference/block-kit/blocks (50 blocks a message).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from glmbot.delivery.abilities import Ability, Profile
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    NotWritten,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
    refused_by_page,
)
from glmbot.delivery.pieces import cut_reply
from glmbot.messages import Attachment, Message, Reply
from glmbot_slack.normalize import button_value
from glmbot_slack.refusals import BlocksRefused, Lacking, StreamOpen, ThreadMissing, ask
from glmbot_slack.render import LONGEST_TEXT, NOTICE_ROOM, escaped, fits, measure, render
from glmbot_slack.streams import NOTHING_YET, Chunk, Growing, Stream, Streams, delete, end_stream, growth

__all__ = ["PROFILE", "SlackOutlet"]

_log = logging.getLogger(__name__)

_SPLIT_AT = 3000
# https://docs.slack.dev/reference/block-kit/block-elements/button-element
_LONGEST_LABEL = 75

# Nothing in chat.postMessage tells Slack that it is the same message again, and a bot that is no assistant can't
# be seen typing.
PROFILE = Profile(
    frozenset(
        {Ability.EDIT, Ability.REMOVE, Ability.BUTTONS, Ability.FILE, Ability.THREAD, Ability.MARKDOWN}
    ),
    longest=LONGEST_TEXT,
)


class SlackOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(self, client: AsyncWebClient, message: Message, streams: Streams) -> None:
        self._client = client
        self._streams = streams
        self._recipient = streams.recipient(message)
        # Until one is refused; then this answer grows by edits.
        self._grows = streams.fit(message)
        # The open ones, by their message; not what an earlier process left, nor any that is in doubt.
        self._open: dict[str, Stream] = {}
        self._channel = message.conversation.chat
        self._thread = message.conversation.thread
        self._asker = message.conversation.user or message.user.id
        # What Slack refused the layout of.
        self._plain: set[Piece] = set()
        # Where the thread is missing the answer stands in the channel.
        self._in_thread = bool(self._thread)

    @property
    def abilities(self) -> frozenset[Ability]:
        return PROFILE.abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        pieces = cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=measure, accepts=fits)
        if reply.state.ended or not self._grows:
            return pieces
        *before, last = pieces
        return [*before, Growing(last.text, last.notice, last.actions)]

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise TypeError("a file comes into a message that was sent before")
        where: dict[str, Any] = {"thread_ts": self._thread} if self._in_thread else {}
        try:
            if isinstance(item, Growing) and self._in_thread and self._grows and self._streams.begin():
                return await self._start(item)
            sent = await self._write(
                item,
                lambda content: self._client.chat_postMessage(
                    channel=self._channel, unfurl_links=False, unfurl_media=False, **where, **content
                ),
            )
        except ThreadMissing as error:
            if not self._in_thread:
                raise
            self._in_thread = False
            raise Reduced(str(error)) from error
        return str(sent["ts"])

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        if isinstance(item, Growing) and await self._append(message_id, item):
            return
        if self._open.pop(message_id, None) is not None:
            await end_stream(self._client, self._channel, message_id)
        try:
            await self._put(message_id, item)
        except StreamOpen as error:
            # An earlier process began it, or nobody knows whether the last words were taken.
            await end_stream(self._client, self._channel, message_id)
            raise Reduced(str(error)) from error
        self._streams.leave(self._channel, message_id)

    async def remove(self, message_id: str) -> None:
        self._open.pop(message_id, None)
        try:
            await delete(self._client, self._channel, message_id)
        except (Closed, Gone) as error:
            # Who may not delete may well write.
            raise Refused(str(error)) from error
        self._streams.leave(self._channel, message_id)

    async def _start(self, piece: Growing) -> str:
        """A stream, which holds the piece's own line and buttons at most. Raises Reduced where there is none."""
        stream, chunks = self._growth(self._streams.opened(), piece) or (self._streams.opened(), ())
        try:
            begun = await ask(
                self._client.chat_startStream(
                    channel=self._channel,
                    thread_ts=self._thread,
                    chunks=[*(chunks or NOTHING_YET)],
                    **self._recipient,
                )
            )
        except ThreadMissing:
            raise
        except Flooded as flood:
            self._grows = False
            self._streams.rest(flood.retry_after)
            raise Reduced(str(flood)) from flood
        except BlocksRefused as error:
            self._grows, self._streams.buttons = bool(stream.actions), False
            raise Reduced(str(error)) from error
        except Unreachable:
            self._grows = False
            raise
        except NotWritten as error:
            # Whom a stream may be for has rules of its own: whether the chat itself takes nothing is for a
            # message to find out.
            self._grows = False
            if isinstance(error, Lacking):
                self._streams.rest()
            raise Reduced(f"{error}, so the answer grows by edits") from error
        ts = str(begun["ts"])
        self._open[ts] = stream
        self._streams.watch(self._client, self._channel, ts)
        return ts

    async def _append(self, ts: str, piece: Growing) -> bool:
        """Whether `piece` stands there now; else it is to be written as a whole, which ends the stream."""
        stream = self._open.get(ts)
        grown = None if stream is None or self._streams.is_old(stream) else self._growth(stream, piece)
        if stream is None or grown is None:
            return False
        after, chunks = grown
        if chunks:
            # Until Slack has said that it took them: what is appended twice would stand there twice.
            del self._open[ts]
            try:
                await ask(self._client.chat_appendStream(channel=self._channel, ts=ts, chunks=[*chunks]))
            except Flooded:
                self._open[ts] = stream
                raise
            except BlocksRefused as error:
                if after.actions == stream.actions:
                    return False
                self._streams.buttons = False
                self._open[ts] = stream
                raise Reduced(str(error)) from error
            except Refused as error:
                _log.info("%s: the answer goes on by edits", error)
                return False
        self._open[ts] = after
        return True

    def _growth(self, stream: Stream, piece: Growing) -> tuple[Stream, Sequence[Chunk]] | None:
        return growth(stream, piece, self._buttons(piece) if self._streams.buttons else ())

    async def _attach(self, message_id: str, file: Attachment) -> None:
        """First the file, which nobody sees yet; then the message shows it, however often that is asked."""
        try:
            place = await ask(
                self._client.files_getUploadURLExternal(filename=file.name, length=len(file.content))
            )
            await ask(self._upload(str(place["upload_url"]), file))
            files = [{"id": place["file_id"], "title": file.name}]
            await ask(self._client.files_completeUploadExternal(files=files))
            name, shown = escaped(file.name), [str(place["file_id"])]
            await ask(
                self._client.chat_update(
                    channel=self._channel, ts=message_id, text=name, blocks=[], parse="none", file_ids=shown
                )
            )
        except (Closed, Gone) as error:
            # Files have rights of their own.
            raise Refused(str(error)) from error

    async def _upload(self, url: str, file: Attachment) -> None:
        """https://docs.slack.dev/messaging/working-with-files#upload: the address that Slack itself named."""
        session = self._client.session
        if session is None:
            raise OSError("the client is closed")
        async with session.post(url, data=file.content, proxy=self._client.proxy or None) as answer:
            if answer.status != 200:
                raise refused_by_page(
                    answer.status, f"Slack: an upload was answered {answer.status}", file=True
                )

    async def _put(self, ts: str, item: Piece | Attachment) -> None:
        if isinstance(item, Attachment):
            await self._attach(ts, item)
            return
        # Unlike chat.postMessage it would read the words as a person's client does.
        await self._write(
            item,
            lambda content: self._client.chat_update(channel=self._channel, ts=ts, parse="none", **content),
        )

    async def _write(self, piece: Piece, request: Any) -> Mapping[str, Any]:
        bare = piece in self._plain
        try:
            return await ask(request(self._content(piece, bare=bare)))
        except BlocksRefused as error:
            if bare:
                raise
            # Whatever Slack has against the layout, the words must arrive.
            self._plain.add(piece)
            raise Reduced(str(error)) from error

    def _content(self, piece: Piece, *, bare: bool) -> dict[str, Any]:
        """text: what a notification says, and all that is left where blocks are refused."""
        elements, plain = render(piece.text)
        said = escaped("\n\n".join(filter(None, (plain, piece.notice)))) or "…"
        if bare:
            return {"text": said, "blocks": []}
        blocks: list[dict[str, Any]] = [{"type": "rich_text", "elements": [*elements]}] if elements else []
        if piece.notice:
            note = {"type": "plain_text", "text": piece.notice, "emoji": False}
            blocks.append({"type": "context", "elements": [note]})
        if piece.actions and blocks:
            blocks.append({"type": "actions", "elements": self._buttons(piece)})
        return {"text": said, "blocks": blocks}

    def _buttons(self, piece: Piece) -> list[dict[str, Any]]:
        return [
            {
                "type": "button",
                "action_id": f"glmbot_{action.command}",
                "text": {"type": "plain_text", "text": action.label[:_LONGEST_LABEL], "emoji": False},
                "value": button_value(action.command, self._asker, self._thread),
            }
            for action in piece.actions
        ]
