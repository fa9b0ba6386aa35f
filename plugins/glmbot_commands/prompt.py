"""/prompt: what the model is told before each conversation of a chat."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, Role

__all__ = ["COMMAND"]


_LONGEST_SHOWN = 4000


async def _prompt(call: Call) -> Reply:
    words, chat = call.argument, call.message.chat
    if not words:
        own = (await call.bot.settings(chat)).get("prompt", "")
        now = own or call.bot.system_prompt(call.message) or "–"
        return call.say("prompt.now", prompt=now[:_LONGEST_SHOWN])
    if words == "off":
        await call.bot.set_setting(chat, "prompt", "")
        return call.say("prompt.off")
    if complaint := await call.bot.check_prompt(call.message, words):
        return call.say(complaint)
    await call.bot.set_setting(chat, "prompt", words)
    return call.say("prompt.done")


def _role_for(argument: str, chat_kind: ChatKind) -> Role:
    """What all of a group are answered by is for administrators to change."""
    return Role.ADMIN if argument and chat_kind is ChatKind.GROUP else Role.USER


COMMAND = Command("prompt", _prompt, argument="TEXT|off", role_for=_role_for, says=True, rank=140)
