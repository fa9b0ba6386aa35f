"""/reload: read the configuration again."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role

__all__ = ["COMMAND"]


async def _reload(call: Call) -> Reply:
    words = call.bot.reload(call.language)
    return Reply("", ReplyState.FINAL, words or call.text("reload.nothing"))


COMMAND = Command("reload", _reload, Role.ADMIN, rank=280)
