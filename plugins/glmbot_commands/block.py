"""/block: shut a person, or a whole chat, out."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, Role
from glmbot_commands.arguments import bad_user

__all__ = ["COMMAND"]


async def _block(call: Call) -> Reply:
    if call.argument == "here":
        await call.bot.set_setting(call.message.chat, "access", "")
        return call.say("block.here")
    user = call.bot.user_named(call.argument, call.message)
    if user is None:
        return bad_user(call, call.argument)
    if user == call.message.user:
        return call.say("block.self")
    await call.bot.set_setting(user, "access", "blocked")
    call.bot.stop_person(user)
    return call.say("block.done", user=user)


COMMAND = Command("block", _block, Role.ADMIN, "USER|here", rank=250)
