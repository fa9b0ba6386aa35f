"""/whoami: somebody's id and role."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _whoami(call: Call) -> Reply:
    name = f" ({call.message.user_name})" if call.message.user_name else ""
    title = call.text(f"role.{call.role}")
    return call.say("whoami.report", user=call.message.user, name=name, role=title)


COMMAND = Command("whoami", _whoami, rank=110)
