"""/mode: which messages of a group are answered."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, Role
from glmbot.modes import MODES, SETTING, mode_of

__all__ = ["COMMAND"]


async def _mode(call: Call) -> Reply:
    chat = call.message.chat
    if call.message.chat_kind is not ChatKind.GROUP:
        return call.say("mode.private")
    wanted = call.argument.lower()
    if wanted not in MODES:
        return call.say("mode.usage", mode=mode_of(await call.bot.settings(chat)))
    await call.bot.set_setting(chat, SETTING, wanted)
    return call.say(f"mode.{wanted}")


COMMAND = Command("mode", _mode, Role.ADMIN, "|".join(MODES), rank=220)
