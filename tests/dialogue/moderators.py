"""The bot's own moderators without a configuration, and any others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from glmbot.dialogue.moderation import Moderation
from glmbot.host import Moderator
from glmbot.registered import StartedModerator
from glmbot_moderation import asking, listing

__all__ = ["moderated", "moderation_of"]


def moderated(
    words: Sequence[str] = (),
    command: Sequence[str] = (),
    timeout_s: float = 5.0,
    refuse_on_failure: bool = True,
) -> Moderation:
    """As [moderation] with these makes it."""
    found = [listing(words)] if words else []
    return moderation_of(*found, *([asking(command, timeout_s, refuse_on_failure)] if command else []))


def moderation_of(*moderators: Moderator) -> Moderation:
    log = logging.getLogger("glmbot.plugins.test")
    return Moderation([StartedModerator(f"m{number}", log, each) for number, each in enumerate(moderators)])
