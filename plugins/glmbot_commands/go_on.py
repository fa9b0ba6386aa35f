"""/continue: on with an answer that was cut."""

from __future__ import annotations

from glmbot.host import Command

__all__ = ["COMMAND"]

COMMAND = Command("continue", asks="continue", rank=70)
