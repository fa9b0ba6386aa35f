"""Reading what stands behind a command's name."""

from __future__ import annotations

from contextlib import suppress

from glmbot.host import Call
from glmbot.keys import UserKey
from glmbot.messages import Reply

__all__ = ["bad_user", "echo", "number_from"]

_LONGEST_ECHO = 64


def number_from(text: str, most: int) -> int | None:
    """A whole number from 0 to `most`, written in digits; None for anything else, however long."""
    if not text.isascii() or not text.isdigit() or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text.lstrip("0") or "0")
    return number if number <= most else None


def bad_user(call: Call, given: str) -> Reply:
    """What to say where `given` names no person."""
    with suppress(ValueError):
        platform = UserKey.by_hand(given).platform
        known = ", ".join(call.bot.platforms(call.message))
        return call.say("reset.bad_platform", platform=echo(platform), known=known)
    return call.say("reset.bad_user", given=echo(given) or "–", platform=call.message.user.platform)


def echo(argument: str) -> str:
    """The beginning of what somebody wrote, to be repeated to them."""
    return argument if len(argument) <= _LONGEST_ECHO else f"{argument[:_LONGEST_ECHO]}…"
