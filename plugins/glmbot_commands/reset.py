"""/reset: forget a conversation, or, for administrators, all of somebody's."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, Role
from glmbot_commands.arguments import bad_user

__all__ = ["COMMAND"]


async def _reset(call: Call) -> Reply:
    if not call.argument:
        return call.say("reset.done", turns=await call.bot.reset(call.message.conversation))
    user = call.bot.user_named(call.argument, call.message)
    if user is None:
        return bad_user(call, call.argument)
    return call.say("reset.user_done", conversations=await call.bot.reset_person(user), user=user)


def _role_for(argument: str, chat_kind: ChatKind) -> Role:
    return Role.ADMIN if argument else Role.USER


COMMAND = Command("reset", _reset, role_for=_role_for, rank=40)
