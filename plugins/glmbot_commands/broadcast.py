"""/broadcast: tell every chat something."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, Role

__all__ = ["COMMAND"]


_LONGEST = 4000


async def _broadcast(call: Call) -> Reply:
    if not call.argument:
        return call.say("broadcast.usage")
    if len(call.argument) > _LONGEST:
        return call.say("broadcast.too_long", most=_LONGEST)
    return call.say("broadcast.done", chats=await call.bot.broadcast(call.message, call.argument))


COMMAND = Command("broadcast", _broadcast, Role.ADMIN, "TEXT", rank=270)
