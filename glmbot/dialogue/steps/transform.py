"""What came along with a message, as text that a model reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.messages import Reply

__all__ = ["transform"]


def transform(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    return following(exchange)
