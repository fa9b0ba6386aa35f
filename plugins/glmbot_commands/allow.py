"""/allow: let a person, or a whole chat, in."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, Role
from glmbot_commands.arguments import bad_user

__all__ = ["COMMAND"]


async def _allow(call: Call) -> Reply:
    if call.argument == "here":
        await call.bot.set_setting(call.message.chat, "access", "user")
        return call.say("allow.here")
    user = call.bot.user_named(call.argument, call.message)
    if user is None:
        return bad_user(call, call.argument)
    await call.bot.set_setting(user, "access", "user")
    await call.bot.set_setting(user, "pairing", "")
    return call.say("allow.done", user=user)


COMMAND = Command("allow", _allow, Role.ADMIN, "USER|here", rank=240)
