"""Answers in progress, kept here so that a page that lost its connection finds them again.

A page asks, gets the stream's name, and reads Server-Sent Events (events.py). A connection's first event is
the whole state so far, so a page that reconnects needs nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from glmbot.background import Background
from glmbot.errors import ClaimLost, StoreError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState
from glmbot.ports import Deliver

__all__ = ["Stream", "Streams", "TooManyStreams"]

_log = logging.getLogger(__name__)

_COMES_BACK_S = 5.0
_LOOK_S = 0.05
_KEPT_S = 120.0
# Longer than any pause before another try.
_TRIED_AGAIN_S = 90.0
# Of one person: what is being answered, and what has been and may be asked for again.
_MOST_OPEN = 64
_MOST_KEPT = 32
_MOST_KEPT_OF_ALL = 1000


class TooManyStreams(Exception):
    """This person has too many questions that are not answered yet."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Stream:
    """`version` counts the snapshots; 0 before the first. `nonce` is that of no other stream, of another process
    neither: after a restart the answer to the same message begins anew."""

    message: Message
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    reply: Reply = field(default_factory=lambda: Reply("", ReplyState.QUEUED))
    version: int = 0
    begun: bool = False
    tries: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def publish(self, reply: Reply) -> None:
        async with self.changed:
            self.reply = reply
            self.version += 1
            self.changed.notify_all()

    async def ended(self) -> Reply:
        """Wait for the last snapshot."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.reply.state.ended)
        return self.reply


class Streams:
    def __init__(self, dialogue: Deliver) -> None:
        self._dialogue = dialogue
        self._streams: dict[str, Stream] = {}
        self._of: dict[UserKey, list[Stream]] = {}
        self._background = Background()
        self._began_at = asyncio.get_running_loop().time()

    def expect(self, message: Message) -> tuple[Stream, bool]:
        """A page may ask for this answer from now on. False when it could already. Raises TooManyStreams."""
        known = self._streams.get(message.update_id)
        if known is not None:
            return known, False
        if self.open_of(message.user) >= _MOST_OPEN:
            raise TooManyStreams
        return self._add(message), True

    def open_of(self, user: UserKey) -> int:
        """How many of this person's questions are not answered yet."""
        return sum(not stream.reply.state.ended for stream in self._of.get(user, []))

    def forget(self, message: Message) -> None:
        """It was not accepted, so no answer comes."""
        stream = self._streams.pop(message.update_id, None)
        if stream is not None:
            of_person = self._of[message.user]
            of_person.remove(stream)
            if not of_person:
                del self._of[message.user]

    def begin(self, message: Message) -> None:
        """Answer an assigned message in the background, whether a page listens or not."""
        stream = self._streams.get(message.update_id) or self._add(message)
        if not stream.begun:
            stream.begun = True
            stream.tries += 1
            self._background.begin(self._run(message, stream))

    async def find(self, name: str, owner: str) -> Stream | None:
        """A page that comes back right after a restart may be here before the answer that it wants."""
        loop = asyncio.get_running_loop()
        while name not in self._streams and loop.time() < self._began_at + _COMES_BACK_S:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        stream = self._streams.get(name)
        return stream if stream is not None and stream.message.user.id == owner else None

    def running_of(self, user: UserKey, conversation: ConversationKey | None = None) -> Sequence[Message]:
        """What is being answered of this person, in this conversation or in all, in the order of arrival."""
        return [
            stream.message
            for stream in self._of.get(user, [])
            if conversation in (None, stream.message.conversation) and not stream.reply.state.ended
        ]

    async def drain(self, grace_s: float) -> None:
        await self._background.drain(grace_s)

    def _add(self, message: Message) -> Stream:
        stream = Stream(message)
        self._streams[message.update_id] = stream
        of_person = self._of.setdefault(message.user, [])
        of_person.append(stream)
        kept = [each for each in of_person if each.reply.state.ended]
        if len(kept) > _MOST_KEPT:
            self.forget(kept[0].message)
        if len(self._streams) > _MOST_KEPT_OF_ALL:
            ended = next((each for each in self._streams.values() if each.reply.state.ended), None)
            if ended is not None:
                self.forget(ended.message)
        return stream

    async def _run(self, message: Message, stream: Stream) -> None:
        tried_again = False
        try:
            try:
                async with aclosing(self._dialogue.respond(message)) as replies:
                    async for reply in replies:
                        await stream.publish(reply)
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
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also a panic of a library in Rust
            _log.exception("answering %s failed", message.conversation)
            tried_again = not await self._dialogue.again(message, f"{type(error).__name__}: {error}")
        if stream.begun:
            return
        loop = asyncio.get_running_loop()
        if stream.reply.state.ended:
            loop.call_later(_KEPT_S, self._let_go, stream)
        elif tried_again:
            # Who is told that it failed asks again, and it would be answered twice.
            loop.call_later(_TRIED_AGAIN_S, self._give_up, stream, stream.tries)
        else:
            await self._fail(stream)

    def _give_up(self, stream: Stream, tries: int) -> None:
        """Nobody here has taken it up since: another process has it."""
        if stream.tries == tries and not stream.begun and not stream.reply.state.ended:
            self._background.begin(self._fail(stream))

    async def _fail(self, stream: Stream) -> None:
        words = self._dialogue.text(stream.message.language, "answer.failed")
        seen = stream.reply
        await stream.publish(Reply(seen.text, ReplyState.FAILED, words, thought=seen.thought))
        asyncio.get_running_loop().call_later(_KEPT_S, self._let_go, stream)

    def _let_go(self, stream: Stream) -> None:
        """Unless it is being answered again."""
        if self._streams.get(stream.message.update_id) is stream and not stream.begun:
            self.forget(stream.message)
