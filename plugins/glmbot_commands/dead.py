"""/dead: what was set aside after its last try: list it, have it answered again, or forget it."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import Reply, ReplyState, Role
from glmbot_commands.arguments import number_from

__all__ = ["COMMAND"]


_LISTED = 20
_LONGEST_REASON = 300


async def _dead(call: Call) -> Reply:
    letters = await call.bot.given_up()
    verb, _, which = call.argument.lower().partition(" ")
    if verb not in ("replay", "drop"):
        if not letters:
            return call.say("dead.none")
        lines = [call.text("dead.title", count=len(letters))]
        for number, letter in enumerate(letters[:_LISTED], 1):
            where, reason = letter.message.conversation, letter.reason[:_LONGEST_REASON]
            lines.append(
                call.text(
                    "dead.line", number=number, conversation=where, minutes=letter.minutes, reason=reason
                )
            )
        return Reply("", ReplyState.FINAL, "\n".join(lines))
    which = which.strip()
    number = number_from(which, len(letters)) or 0
    if which != "all" and not 1 <= number <= len(letters):
        return call.say("dead.usage")
    done = 0
    for letter in letters if which == "all" else [letters[number - 1]]:
        done += await (call.bot.replay if verb == "replay" else call.bot.drop)(letter.message)
    return call.say(f"dead.{verb}", count=done)


COMMAND = Command("dead", _dead, Role.ADMIN, "replay|drop N|all", rank=290)
