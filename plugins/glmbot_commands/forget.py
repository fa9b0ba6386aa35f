"""/forget: delete all that is kept of somebody, once they are sure."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _forget(call: Call) -> Reply:
    if call.argument.lower() != "yes":
        return call.say("forget.confirm")
    return call.say("forget.done", turns=await call.bot.forget(call.message.user))


COMMAND = Command("forget", _forget, argument="yes", rank=130)
