"""The bot's own moderators, as [moderation] of the configuration says: a list of words, and a program."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence

from glmbot.errors import ConfigError
from glmbot.host import Host, ModerationSettings, Moderator, Passage
from glmbot_moderation.program import Program
from glmbot_moderation.words import GrowingText, WordList, read_words

__all__ = ["asking", "listing", "register"]

# Longer texts are looked at beside other people's streams.
_LONG = 20_000
# A list is always looked through, however busy the machine is, and nobody waits for it.
_WHOLE_LIST_S, _EVERYBODY = 3600.0, 1_000_000


def register(host: Host) -> None:
    host.moderator("words", _words)
    host.moderator("program", _program)


def _words(settings: ModerationSettings) -> Moderator | None:
    """Raises ConfigError for a list that can't be read."""
    file = settings.words_file
    if file is None:
        return None
    try:
        words = read_words(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"[moderation] words_file {file}: {error}") from error
    return listing(words, [(bool(words), f"{len(words)} words in {file}")])


def _program(settings: ModerationSettings) -> Moderator | None:
    if not settings.command:
        return None
    found = shutil.which(settings.command[0])
    words = f"command {settings.command[0]} " + (
        "can be run" if found else "is no program that can be run; every question would be refused"
    )
    return asking(
        settings.command, settings.timeout_s, settings.refuse_on_failure, [(found is not None, words)]
    )


def listing(words: Sequence[str], advice: Sequence[tuple[bool, str]] = ()) -> Moderator:
    """Refuses what holds one of the words."""
    listed = WordList(words)

    async def allows(passage: Passage) -> bool:
        text = passage.text
        if len(text) > _LONG:
            return not await asyncio.to_thread(listed.has_word, text)
        return not listed.has_word(text)

    return Moderator(
        allows, lambda: GrowingText(listed), timeout_s=_WHOLE_LIST_S, at_once=_EVERYBODY, advice=advice
    )


def asking(
    command: Sequence[str],
    timeout_s: float = 5.0,
    refuse_on_failure: bool = True,
    advice: Sequence[tuple[bool, str]] = (),
) -> Moderator:
    """Allows what the program allows."""
    return Moderator(
        Program(command).allows, timeout_s=timeout_s, refuse_on_failure=refuse_on_failure, advice=advice
    )
