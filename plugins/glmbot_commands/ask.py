"""/ask: a question, where the bot is spoken to by commands."""

from __future__ import annotations

from glmbot.host import Command

__all__ = ["COMMAND"]

COMMAND = Command("ask", asks="ask", says=True, argument="QUESTION", rank=20)
