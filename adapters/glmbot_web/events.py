"""Snapshots as Server-Sent Events, as slowly as it takes to make them.

https://html.spec.whatwg.org/multipage/server-sent-events.html. A connection's first event is the whole answer so
far, each later one what changed since: the blocks from the first other one on, and the text that was added. It is
made once for all who have seen the same, beside the event loop where it is long, and the longer it takes and gets,
the longer until the next: a long answer's snapshots take a bounded share of the time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from aiohttp import web

from glmbot.delivery.split import common_beginning, utf16_length
from glmbot.messages import Reply
from glmbot_web.delivery import Stream
from glmbot_web.render import Growing

__all__ = ["Listeners", "Renderer", "sse", "with_pings"]

_T = TypeVar("_T")

PING = b": ping\n\n"
PING_S = 15.0
_FRAME_S = 0.05
_LONGEST_WRITE_S = 60.0
# Shorter than this it is rendered sooner than a thread takes over.
_SHORT = 1000
# A snapshot is made during a quarter of the time at most, and a stream takes this many bytes a second.
_REST_OF_TIME = 3.0
_BYTES_PER_S = 500_000
_LONGEST_VERSION = 18
_MOST_LISTENERS_OF_ONE = 16


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


async def with_pings(replies: AsyncGenerator[_T, None], every_s: float) -> AsyncGenerator[_T | None, None]:
    """The newest of what `replies` yields, and None whenever nothing came for so long. Closes `replies`."""
    newest: list[_T] = []
    changed = asyncio.Event()

    async def follow() -> None:
        try:
            async with aclosing(replies):
                async for reply in replies:
                    newest[:] = [reply]
                    changed.set()
        finally:
            changed.set()

    task = asyncio.create_task(follow())
    try:
        while newest or not task.done():
            try:
                async with asyncio.timeout(every_s):
                    await changed.wait()
            except TimeoutError:
                yield None
                continue
            changed.clear()
            if newest:
                yield newest.pop()
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Renderer:
    """One thread for all: rendering takes no more than one processor from the model."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")

    async def off_loop(self, work: Callable[[], _T], size: int) -> _T:
        """`work` on a text of so many characters, beside the event loop where that takes long."""
        if size <= _SHORT:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One snapshot: `blocks` is the HTML of its text, block by block."""

    version: int
    reply: Reply
    blocks: Sequence[str]


class _Frames:
    """The newest snapshot of one stream. `next_at`: the loop's time before which no other is made."""

    def __init__(self, renderer: Renderer, stream: Stream) -> None:
        self._renderer = renderer
        self._stream = stream
        self._lock = asyncio.Lock()
        self._growing = Growing()
        self._newest: _Frame | None = None
        # Those who listen have mostly seen the same: what it was, what it is, and the event between them.
        self._made: tuple[_Frame | None, _Frame, bytes] | None = None
        self.next_at = 0.0

    async def newest(self) -> _Frame:
        async with self._lock:
            loop = asyncio.get_running_loop()
            stream = self._stream
            if self._newest is not None and self._newest.version == stream.version:
                return self._newest
            if not stream.reply.state.ended:
                await asyncio.sleep(max(0.0, self.next_at - loop.time()))
            version, reply = stream.version, stream.reply
            blocks, took = await self._renderer.off_loop(
                lambda: _timed(lambda: self._growing.blocks(reply.text)), len(reply.text)
            )
            self._newest = _Frame(version, reply, blocks)
            self.next_at = loop.time() + max(_FRAME_S, took * _REST_OF_TIME)
            return self._newest

    async def event(self, seen: _Frame | None, frame: _Frame) -> bytes:
        """What leads from one snapshot to another."""
        async with self._lock:
            if self._made is None or self._made[0] is not seen or self._made[1] is not frame:
                made, took = await self._renderer.off_loop(
                    lambda: _timed(lambda: _encoded(self._stream.nonce, seen, frame)), _size(seen, frame)
                )
                self._made = seen, frame, made
                pause = max(took * _REST_OF_TIME, len(made) / _BYTES_PER_S)
                self.next_at = max(self.next_at, asyncio.get_running_loop().time() + pause)
            return self._made[2]


class Listeners:
    """Who reads which stream. Of one person's connections the newest few count; an older one is ended."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self._frames: WeakKeyDictionary[Stream, _Frames] = WeakKeyDictionary()
        self._of: dict[str, list[asyncio.Task[Any]]] = {}

    async def send(self, request: web.Request, stream: Stream) -> web.StreamResponse:
        """Write the stream's snapshots as events until the answer has ended or the page has gone."""
        response = sse()
        frames = self._frames.setdefault(stream, _Frames(self.renderer, stream))
        with self._listening(stream.message.user.id, cast("asyncio.Task[Any]", asyncio.current_task())):
            await response.prepare(request)
            sent = _last_seen(request, stream)
            if sent != stream.version or not stream.reply.state.ended:
                await _write(response, stream, frames, sent)
            await response.write(b"event: end\ndata: {}\n\n")
            await response.write_eof()
        return response

    def end(self) -> None:
        """The server stops: who listens finds the answer again at the next one."""
        for tasks in self._of.values():
            for task in tasks:
                task.cancel()

    @contextmanager
    def _listening(self, person: str, task: asyncio.Task[Any]) -> Generator[None]:
        tasks = self._of.setdefault(person, [])
        tasks.append(task)
        if len(tasks) > _MOST_LISTENERS_OF_ONE:
            tasks.pop(0).cancel()
        try:
            yield
        finally:
            if task in tasks:
                tasks.remove(task)
            if not tasks:
                self._of.pop(person, None)


async def _write(response: web.StreamResponse, stream: Stream, frames: _Frames, sent: int) -> None:
    seen: _Frame | None = None
    while True:
        news = False
        async with stream.changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await stream.changed.wait_for(lambda seen=sent: stream.version != seen)
                news = True
        if not news:
            await response.write(PING)
            continue
        frame = await frames.newest()
        if frame.version != sent:
            await response.write(await frames.event(seen, frame))
        sent, seen = frame.version, frame
        if frame.reply.state.ended:
            return


def _last_seen(request: web.Request, stream: Stream) -> int:
    """The version that the page saw last; -1 where it saw none of this stream."""
    nonce, _, version = request.headers.get("Last-Event-ID", "").partition("-")
    if nonce != stream.nonce:
        return -1
    return (
        int(version) if version.isascii() and version.isdigit() and len(version) <= _LONGEST_VERSION else -1
    )


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def _size(seen: _Frame | None, frame: _Frame) -> int:
    attachment = frame.reply.attachment
    text, thought = ("", "") if seen is None else (seen.reply.text, seen.reply.thought)
    new = max(len(frame.reply.text) - len(text), 0) + max(len(frame.reply.thought) - len(thought), 0)
    return new + (len(attachment.content) if attachment else 0)


def _encoded(nonce: str, seen: _Frame | None, frame: _Frame) -> bytes:
    event = json.dumps(_event(seen, frame), ensure_ascii=False)
    return f"id: {nonce}-{frame.version}\ndata: {event}\n\n".encode("utf-8", "backslashreplace")


def _kept(before: str, now: str) -> int:
    """How many characters of what was said before still stand at the beginning."""
    return len(before) if now.startswith(before) else 0


def _event(seen: _Frame | None, frame: _Frame) -> dict[str, object]:
    """`blocks` replace those from the `from`-th on, `text` what stands behind the first `at` UTF-16 units,
    `thought` what stands behind the first `thought_at`.

    The last event has them whole.
    """
    reply = frame.reply
    same, at, thought_at = 0, 0, 0
    if seen is not None:
        same = common_beginning(seen.blocks, frame.blocks)
        if not reply.state.ended:
            at = _kept(seen.reply.text, reply.text)
            thought_at = _kept(seen.reply.thought, reply.thought)
    event: dict[str, object] = {
        "state": reply.state,
        "from": same,
        "blocks": frame.blocks[same:],
        "at": utf16_length(reply.text[:at]),
        "text": reply.text[at:],
        "thought_at": utf16_length(reply.thought[:thought_at]),
        "thought": reply.thought[thought_at:],
        "notice": reply.notice,
        "actions": [action.command for action in reply.actions],
        # The page has its own words for all but what is asked of a tool.
        "labels": [action.label for action in reply.actions],
    }
    if reply.attachment is not None:
        content = base64.b64encode(reply.attachment.content).decode()
        event["attachment"] = {
            "name": reply.attachment.name,
            "type": reply.attachment.media_type,
            "content": content,
        }
    return event
