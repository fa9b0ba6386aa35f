"""/lang: the language that the bot speaks to somebody."""

from __future__ import annotations

from dataclasses import replace

from glmbot.host import Call, Command
from glmbot.messages import Reply

__all__ = ["COMMAND"]


async def _lang(call: Call) -> Reply:
    choice = call.argument.lower()
    if choice == "auto":
        await call.bot.set_setting(call.message.user, "language", "")
        # The line is found in the language nearest to the one that the app speaks.
        return replace(call, language=call.message.language).say("lang.auto")
    if choice not in ("en", "zh"):
        return call.say("lang.usage")
    await call.bot.set_setting(call.message.user, "language", choice)
    return replace(call, language=choice).say("lang.set")


COMMAND = Command("lang", _lang, argument="en|zh|auto", rank=90)
