"""/pair: let somebody in by their pairing code."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, Role

__all__ = ["COMMAND"]


async def _pair(call: Call) -> Reply:
    user = await call.bot.pair(call.argument)
    return call.say("pair.unknown") if user is None else call.say("pair.done", user=user)


COMMAND = Command("pair", _pair, Role.ADMIN, "CODE", rank=230)
