"""/new: a new conversation."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _new(call: Call) -> Reply:
    return call.say("reset.done", turns=await call.bot.reset(call.message.conversation))


COMMAND = Command("new", _new, rank=30)
