"""/help: what somebody can do here."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, ReplyState, Role

__all__ = ["COMMAND"]


async def _help(call: Call) -> Reply:
    lines = [call.text("help.title")]
    for info in call.bot.commands(call.language, call.role, ChatKind.PRIVATE):
        lines.append(f"/{info.name} {info.argument}".rstrip() + f" – {info.description}")
    if call.role is Role.ADMIN:
        lines.append(call.text("help.admin_reset"))
    return Reply("", ReplyState.FINAL, "\n".join(lines))


COMMAND = Command("help", _help, rank=10)
