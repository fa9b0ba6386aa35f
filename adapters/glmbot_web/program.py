"""Who asks without a page."""

from __future__ import annotations

from typing import NamedTuple

from glmbot.keys import UserKey

__all__ = ["Program"]


class Program(NamedTuple):
    """`source`: where from (`Message.source`)."""

    user: UserKey
    source: str
