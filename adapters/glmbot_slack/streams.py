"""Slack's streams: a message in a thread to which words are appended, and which at its end is written as a whole.

https://docs.slack.dev/reference/methods/chat.startStream, chat.appendStream, chat.stopStream: in a channel it is
asked for whom the words grow (all others see them once they have ended); starts and ends are of tier 2, so 20 a
minute. What is in no reference: a stream is closed some five minutes after its start, whatever is appended
(https://github.com/slackapi/node-slack-sdk/issues/2702); while it is open chat.update and chat.delete are refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from glmbot.background import Background
from glmbot.delivery.outlet import NotWritten, Piece, Refused, Unreachable
from glmbot.messages import Action, ChatKind, Message
from glmbot_slack.normalize import TEAM
from glmbot_slack.refusals import StreamOpen, StreamOver, ask
from glmbot_slack.render import escaped

__all__ = [
    "LONGEST_APPEND",
    "NOTHING_YET",
    "Chunk",
    "Growing",
    "Stream",
    "Streams",
    "delete",
    "end_stream",
    "growth",
    "harmless",
]

LONGEST_APPEND = 12_000
"""https://docs.slack.dev/reference/methods/chat.appendStream, of markdown_text."""
_LONGEST_TITLE = 256
_STARTS_A_MINUTE = 20
# An end that Slack makes leaves a mark of failure on the message, so it is ended before.
_LONGEST_S = 240.0
# Where the workspace has no streams it is not asked at each answer.
_REST_S = 600.0

Chunk = dict[str, Any]
NOTHING_YET: Sequence[Chunk] = ({"type": "markdown_text", "text": "\u200b"},)
"""A stream takes chunks to its end only if it began with one, and this one shows nothing."""


@dataclass(frozen=True, slots=True)
class Growing(Piece):
    """More words come."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What was appended to one that is open."""

    begun: float
    said: str = ""
    notice: str = ""
    actions: tuple[Action, ...] = ()


class Streams:
    """Where and when an app's answers may be streams. where: as [slack] streaming; team: the bot's own."""

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where = where
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=_STARTS_A_MINUTE)
        self._rest_until = 0.0
        # Those that Slack may have open: when they are ended, and how.
        self._open: dict[
            tuple[str, str], tuple[asyncio.TimerHandle, Callable[[], Coroutine[Any, Any, None]]]
        ] = {}
        self._ending = Background()
        self.team = ""
        # Until Slack refuses them in a stream.
        self.buttons = True

    def fit(self, message: Message) -> bool:
        """Whether the answer may be one at all."""
        private = message.chat_kind is ChatKind.PRIVATE
        wanted = self._where == "threads" or (self._where == "private" and private)
        return wanted and bool(message.conversation.thread) and bool(self.team or message.origin.get(TEAM))

    def begin(self) -> bool:
        """Take one of this minute's starts; False where none is left, or Slack refused them lately."""
        now = self._clock()
        full = len(self._begun) == _STARTS_A_MINUTE and self._begun[0] > now - 60
        if full or now < self._rest_until:
            return False
        self._begun.append(now)
        return True

    def rest(self, seconds: float = _REST_S) -> None:
        self._rest_until = max(self._rest_until, self._clock() + seconds)

    def watch(self, client: AsyncWebClient, channel: str, ts: str) -> None:
        """End it in time, unless it is left before: nothing may be said for minutes, or nobody go on with it."""
        end = partial(self._end, client, channel, ts)
        timer = asyncio.get_running_loop().call_later(_LONGEST_S, lambda: self._ending.begin(end()))
        self._open[channel, ts] = timer, end

    def leave(self, channel: str, ts: str) -> None:
        """It has ended."""
        if (watched := self._open.pop((channel, ts), None)) is not None:
            watched[0].cancel()

    async def drain(self, grace_s: float) -> None:
        """End what is open: nobody is here any more who would."""
        for timer, end in list(self._open.values()):
            timer.cancel()
            self._ending.begin(end())
        await self._ending.drain(grace_s)

    async def _end(self, client: AsyncWebClient, channel: str, ts: str) -> None:
        self._open.pop((channel, ts), None)
        with suppress(NotWritten):
            await end_stream(client, channel, ts)

    def opened(self) -> Stream:
        return Stream(self._clock())

    def is_old(self, stream: Stream) -> bool:
        return self._clock() - stream.begun > _LONGEST_S

    def recipient(self, message: Message) -> Mapping[str, str]:
        """For whom it grows: who asked, and their workspace, which may be another than the bot's."""
        team = message.origin.get(TEAM) or self.team
        return {"recipient_user_id": message.user.id, "recipient_team_id": team}


def harmless(text: str) -> str:
    """The model's Markdown, in which nobody is called, and no address is a link while it is a stream: that has no
    unfurl_links, so Slack might open an address before anybody saw it. What nobody sees stands behind each colon.
    As a text grows, so does this."""
    return escaped(text).replace(":", ":\u2060")


def growth(stream: Stream, piece: Piece, buttons: Sequence[Chunk]) -> tuple[Stream, Sequence[Chunk]] | None:
    """What is to be appended for `piece`, and the stream after that. None where that can't be done by appending.

    The bot's own line is a task that is under way; buttons stand above the words. Pure.
    """
    said, notice = harmless(piece.text), "" if piece.notice == "…" else harmless(piece.notice)
    more = said.removeprefix(stream.said)
    replaced = not said.startswith(stream.said) or (stream.actions and piece.actions != stream.actions)
    if replaced or len(more) > LONGEST_APPEND or len(notice) > _LONGEST_TITLE:
        return None
    chunks: list[Chunk] = []
    if buttons and not stream.actions:
        chunks.append({"type": "blocks", "blocks": [{"type": "actions", "elements": [*buttons]}]})
    if notice != stream.notice:
        status = "in_progress" if notice else "complete"
        chunks.append(
            {"type": "task_update", "id": "notice", "title": notice or stream.notice, "status": status}
        )
    if more:
        chunks.append({"type": "markdown_text", "text": more})
    actions = piece.actions if buttons else stream.actions
    return replace(stream, said=said, notice=notice, actions=actions), chunks


async def end_stream(client: AsyncWebClient, channel: str, ts: str) -> None:
    """Raises the exceptions of `glmbot.delivery.outlet`; what may not be ended ends by itself in minutes."""
    try:
        with suppress(StreamOver):
            await ask(client.chat_stopStream(channel=channel, ts=ts))
    except Refused as error:
        raise Unreachable(f"{error}, for a stream that is to end") from error


async def delete(client: AsyncWebClient, channel: str, ts: str) -> None:
    """Also what is still a stream. Raises the exceptions of `glmbot.delivery.outlet`."""
    try:
        await ask(client.chat_delete(channel=channel, ts=ts))
    except StreamOpen:
        await end_stream(client, channel, ts)
        await ask(client.chat_delete(channel=channel, ts=ts))
