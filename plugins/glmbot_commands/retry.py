"""/retry: another answer to the last question."""

from __future__ import annotations

from glmbot.host import Command

__all__ = ["COMMAND"]

COMMAND = Command("retry", asks="retry", rank=60)
