"""Answers in progress, kept here so that a page that lost its connection finds them again.

A page asks, gets the stream's name, and reads Server-Sent Events. Each event is the whole state so far, so a
page that reconnects needs only the newest, and none when its Last-Event-ID says that it has that.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from aiohttp import web

from glmbot.background import Background
from glmbot.errors import ClaimLost, StoreError
from glmbot.messages import ConversationKey, Dialogue, Message, Reply, ReplyState, UserKey
from glmbot_web.render import to_html

__all__ = ["Streams", "send_events", "sse"]

_log = logging.getLogger(__name__)

_FRAME_S = 0.05
_PING_S = 15.0
_COMES_BACK_S = 5.0
_LONGEST_WRITE_S = 60.0
_KEPT_S = 120.0


@dataclass(slots=True)
class _Stream:
    message: Message
    reply: Reply = field(default_factory=lambda: Reply("", ReplyState.QUEUED))
    version: int = 0
    begun: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class Streams:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._streams: dict[str, _Stream] = {}
        self._background = Background()
        self._began_at = asyncio.get_running_loop().time()

    def expect(self, message: Message) -> bool:
        """A page may ask for this answer from now on. False when it could already."""
        known = message.update_id in self._streams
        self._streams.setdefault(message.update_id, _Stream(message))
        return not known

    def forget(self, message: Message) -> None:
        """It was not accepted, so no answer comes."""
        self._streams.pop(message.update_id, None)

    def begin(self, message: Message) -> None:
        """Answer an assigned message in the background, whether a page listens or not."""
        self.expect(message)
        stream = self._streams[message.update_id]
        if not stream.begun:
            stream.begun = True
            self._background.begin(self._run(message, stream))

    async def find(self, name: str, owner: int) -> _Stream | None:
        """A page that comes back right after a restart may be here before the answer that it wants."""
        loop = asyncio.get_running_loop()
        while name not in self._streams and loop.time() < self._began_at + _COMES_BACK_S:  # noqa: ASYNC110
            await asyncio.sleep(_FRAME_S)
        stream = self._streams.get(name)
        return stream if stream is not None and stream.message.user.id == owner else None

    def running_of(self, whose: ConversationKey | UserKey) -> Sequence[Message]:
        """What is being answered in this conversation, or of this person, in the order of arrival."""
        return [
            stream.message
            for stream in self._streams.values()
            if whose in (stream.message.conversation, stream.message.user) and not stream.reply.state.ended
        ]

    async def drain(self, grace_s: float) -> None:
        await self._background.drain(grace_s)

    async def _run(self, message: Message, stream: _Stream) -> None:
        try:
            try:
                async with aclosing(self._dialogue.respond(message)) as replies:
                    async for reply in replies:
                        await _publish(stream, reply)
            finally:
                # When it is assigned again, it is answered again.
                stream.begun = False
            if stream.reply.resumes:
                await self._dialogue.again(message)
            else:
                await self._dialogue.delivered(message)
        except ClaimLost as error:
            _log.info("%s", error)
            await self._dialogue.again(message)
        except StoreError as error:
            _log.warning("a delivered answer could not be recorded: %s", error)
        except Exception as error:
            _log.exception("answering %s failed", message.conversation)
            await self._dialogue.again(message, f"{type(error).__name__}: {error}")
        if stream.begun:
            return
        if not stream.reply.state.ended:
            await _publish(stream, Reply(stream.reply.text, ReplyState.FAILED, "…"))
        asyncio.get_running_loop().call_later(_KEPT_S, self._streams.pop, message.update_id, None)


async def _publish(stream: _Stream, reply: Reply) -> None:
    async with stream.changed:
        stream.reply = reply
        stream.version += 1
        stream.changed.notify_all()


async def send_events(request: web.Request, stream: _Stream) -> web.StreamResponse:
    """Write the stream's snapshots as events until the answer has ended or the page has gone."""
    response = sse()
    await response.prepare(request)
    last_seen = request.headers.get("Last-Event-ID", "")
    sent = int(last_seen) if last_seen.isascii() and last_seen.isdigit() else -1
    if sent == stream.version and stream.reply.state.ended:
        await _end(response)
        return response
    while True:
        async with stream.changed:
            try:
                async with asyncio.timeout(_PING_S):
                    await stream.changed.wait_for(lambda seen=sent: stream.version != seen)
            except TimeoutError:
                sent_now = False
            else:
                sent_now = True
        if not sent_now:
            await response.write(b": ping\n\n")
            continue
        sent, reply = stream.version, stream.reply
        await response.write(f"id: {sent}\ndata: {json.dumps(_event(reply))}\n\n".encode())
        if reply.state.ended:
            await _end(response)
            return response
        await asyncio.sleep(_FRAME_S)


async def _end(response: web.StreamResponse) -> None:
    await response.write(b"event: end\ndata: {}\n\n")
    await response.write_eof()


class _EventStream(web.StreamResponse):
    """A client that does not read may not keep its connection, and what is generated for it, for ever."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            async with asyncio.timeout(_LONGEST_WRITE_S):
                await super().write(data)
        except TimeoutError as error:
            raise ConnectionResetError("the client does not read") from error


def sse() -> web.StreamResponse:
    return _EventStream(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )


def _event(reply: Reply) -> dict[str, object]:
    event: dict[str, object] = {
        "state": reply.state,
        "text": reply.text,
        "html": to_html(reply.text),
        "notice": reply.notice,
        "actions": [action.command for action in reply.actions],
    }
    if reply.attachment is not None:
        content = base64.b64encode(reply.attachment.content).decode()
        event["attachment"] = {
            "name": reply.attachment.name,
            "type": reply.attachment.media_type,
            "content": content,
        }
    return event
