"""/start: hello."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _start(call: Call) -> Reply:
    return call.say("start.welcome", model=call.bot.load().model)


COMMAND = Command("start", _start, rank=0)
