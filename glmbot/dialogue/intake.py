"""What of all that is said where the bot listens is taken in to be answered."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Protocol

from glmbot.dialogue import acts
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.question import asked_text
from glmbot.dialogue.tool_asks import pressed
from glmbot.messages import Addressed, ChatKind, Edit, Message, Press
from glmbot.modes import is_answered, mode_of
from glmbot.store.base import Anchors, Messages, Settings

__all__ = ["taken_in"]


# A button carries letters alone.
_OPTIONS = "abcdefghij"
_VOTE = re.compile(r"poll([a-j])([a-z]{8})")


class _Kept(Anchors, Messages, Settings, Protocol):
    """A chat's settings, and what its people said before."""


async def taken_in(store: _Kept, commands: Commands, message: Message) -> Message | None:
    """The message as it is to be accepted; None for what is not said to the bot, and for edits that change
    nothing. Raises StoreError."""
    if isinstance(message.intent, Press) and (button := pressed(message.intent.command)) is not None:
        ask, answer = button
        message = replace(message, text=f"/tools {answer} {ask}")
    if isinstance(message.intent, Press) and (vote := _VOTE.fullmatch(message.intent.command)) is not None:
        message = replace(message, text=f"/poll {_OPTIONS.index(vote[1]) + 1} {vote[2]}")
    if message.chat_kind is ChatKind.GROUP and message.addressed is not Addressed.DIRECTLY:
        mode = mode_of(await store.settings(message.chat))
        if not is_answered(message, mode, commands):
            addressed = await _addressed_before(store, commands, message)
            if addressed is None:
                return None
            message = replace(message, addressed=addressed)
    if isinstance(message.intent, Edit):
        earlier = await store.turn_of(message.conversation, message.ref)
        unchanged = earlier is not None and earlier.question in (message.text.strip(), asked_text(message))
        # Telegram also reports edits that leave the text alone; and a command is not given twice.
        if unchanged or (message.command is not None and commands.asks(message.command.name) != "ask"):
            return None
    return message


async def _addressed_before(store: _Kept, commands: Commands, message: Message) -> Addressed | None:
    """How the act that it belongs to turned to the bot. Raises StoreError."""
    if not message.act.at:
        return None
    begun = acts.home_of(message, await store.open_in(message.conversation), commands)
    if begun is not None:
        return begun.addressed
    asked = (
        isinstance(message.intent, Edit)
        and await store.turn_of(message.conversation, message.ref) is not None
    )
    return Addressed.BY_REPLY if asked else None
