"""/export: all that is kept of somebody, as a file for them."""

from __future__ import annotations

from dataclasses import replace

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _export(call: Call) -> Reply:
    file, turns = await call.bot.export(call.message.user)
    return replace(call.say("export.done", turns=turns), attachment=file)


COMMAND = Command("export", _export, private=True, rank=120)
