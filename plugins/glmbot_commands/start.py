"""/start: hello."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _start(call: Call) -> Reply:
    here = await call.bot.model_here(call.message, call.role)
    return call.say("start.welcome", model=here.name)


COMMAND = Command("start", _start, rank=0)
