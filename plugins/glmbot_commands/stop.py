"""/stop: end what is being answered here."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _stop(call: Call) -> Reply:
    return call.say("stop.done" if call.bot.stop(call.message.conversation) else "stop.nothing")


COMMAND = Command("stop", _stop, rank=50)
