"""/limit: questions an hour of a person, or of a chat."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, Role
from glmbot_commands.arguments import bad_user, number_from

__all__ = ["COMMAND"]


_LARGEST_LIMIT = 1_000_000


async def _limit(call: Call) -> Reply:
    who, _, given = call.argument.partition(" ")
    owner = call.message.chat if who == "here" else call.bot.user_named(who, call.message)
    number = given.strip()
    if owner is None and number:
        return bad_user(call, who)
    limit = {"off": -1, "none": 0}.get(number, number_from(number, _LARGEST_LIMIT))
    if owner is None or limit is None:
        return call.say("limit.usage")
    # "off" takes the special limit away, so that the configured one holds; 0 is no limit, as it is there.
    await call.bot.set_setting(owner, "limit", "" if limit < 0 else str(limit))
    line = "limit.off" if limit < 0 else "limit.done" if limit else "limit.none"
    return call.say(line, owner=owner, limit=limit)


COMMAND = Command("limit", _limit, Role.ADMIN, "USER|here N|none|off", rank=260)
