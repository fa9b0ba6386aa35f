"""/context: how full the model's context is."""

from __future__ import annotations

import logging

from glmbot.errors import EngineError
from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


_log = logging.getLogger(__name__)


async def _context(call: Call) -> Reply:
    try:
        room = await call.bot.room(call.message, call.role)
    except (EngineError, ValueError) as error:
        _log.error("%s: no prompt can be made: %s", call.message.conversation, str(error)[:500])
        return call.fail("answer.failed")
    if room is None:
        here = await call.bot.model_here(call.message, call.role)
        return call.say("model.not_loaded", model=here.name)
    return call.say(
        "context.report",
        used=room.used,
        budget=room.budget,
        answer=room.answer,
        length=room.length,
        turns=room.turns,
        dropped=room.dropped,
        tools=room.tools,
    )


COMMAND = Command("context", _context, rank=80)
