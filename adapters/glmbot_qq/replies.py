"""How often QQ lets a message be answered and for how long, and how the paragraphs of an answer fit into that.

https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/overview.html, 被动消息: 单聊 60 分钟 4 次,
群聊 5 分钟 5 次, 频道 5 分钟. (Until 2025 单聊 had 5 次, too.) What is sent in paragraphs would soon have used
that up. So the first ones go out as they end, each longer than the one before, and the rest at the end of the
answer, for which two replies are kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, cast

from glmbot.delivery.paragraphs import Paragraphs
from glmbot.messages import Message, Reply
from glmbot_qq.normalize import Scene, scene_of

__all__ = ["MOST_REPLIES", "SPLIT_AT", "WINDOW_S", "Portions", "in_portions"]

MOST_REPLIES: Mapping[Scene, int] = {Scene.USER: 4, Scene.GROUP: 5}
WINDOW_S: Mapping[Scene, float] = {
    Scene.USER: 3600.0,
    Scene.GROUP: 300.0,
    Scene.CHANNEL: 300.0,
    Scene.GUILD_DM: 300.0,
}
# Characters of a message. Longer ones are folded up on a phone.
SPLIT_AT = 3000
_KEPT_FOR_THE_END = 2
_SHORTEST, _LONGER = 100, 4

_D = TypeVar("_D")


class Portions:
    """most: replies in all; None for as many as there are paragraphs."""

    def __init__(self, most: int | None) -> None:
        self._left = None if most is None else max(most - _KEPT_FOR_THE_END, 0)
        self._least = _SHORTEST
        self._said = 0
        self._paragraphs = Paragraphs()

    def sends(self, text: str) -> bool:
        """Whether the paragraphs that have ended in this snapshot are to be sent now."""
        if self._left is None:
            return True
        end = self._paragraphs.end(text)
        more = end - self._said
        messages = -(-more // SPLIT_AT)
        if more < self._least or messages > self._left:
            return False
        self._said, self._left, self._least = end, self._left - messages, self._least * _LONGER
        return True


def in_portions(dialogue: _D) -> _D:
    """The same dialogue, of whose growing answers only those snapshots come that may be sent."""
    return cast(_D, _Portioned(dialogue))


class _Portioned:
    def __init__(self, dialogue: Any) -> None:
        self._dialogue = dialogue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialogue, name)

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        portions = Portions(MOST_REPLIES.get(scene_of(message.conversation.chat)[0]))
        async with aclosing(self._dialogue.respond(message)) as replies:
            async for reply in replies:
                if reply.state.ended or portions.sends(reply.text):
                    yield reply
