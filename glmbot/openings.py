"""How what somebody says begins: with a command, with another bot's prefix, or with plain words. Pure.

A command is "/" and one word, as Telegram's clients find it (`is_bot_command` in
https://github.com/tdlib/td/blob/master/td/telegram/MessageEntity.cpp), in any script and width. A path
("/etc/hosts"), a comment ("//todo") and a pattern ("/^a/") are none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["SlashCommand", "has_prefix", "slash_command", "without"]

_LONGEST_NAME = 64
_COMMAND = re.compile(
    rf"[/／](?P<name>\w{{1,{_LONGEST_NAME}}})(?:[@＠](?P<to>\w{{1,{_LONGEST_NAME}}}))?"
    r"(?![\w/／<>\\]|\.\w)(?P<rest>.*)",
    re.DOTALL,
)
_ARGUMENT = re.compile(r"(?:\s+|\s*[:：,，]\s*)(?P<argument>.*)|[\s.!?~。！？…]*", re.DOTALL)
_PREFIX = re.compile(r"[!！][A-Za-z]")
# What follows a name that somebody is called by: "@bot, …", "@bot：…".
_CALLED = re.compile(r"[ \t]*[,:，：、]?[ \t]*")


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """`name` in small letters of usual width. `to`: the bot that it names, "" where it names none."""

    name: str
    argument: str
    to: str = ""

    def may_be_for(self, bot: str) -> bool:
        """Whether it names that bot, or none."""
        return not self.to or self.to.lower() == bot.lower()


def slash_command(text: str) -> SlashCommand | None:
    """ "/Ask@OurBot why" -> SlashCommand("ask", "why", "OurBot"); None for what is no command of any bot's.

    What goes on after its name without a space is another command: "/d20+3", "/start-up".
    """
    match = _COMMAND.fullmatch(text.strip())
    if match is None:
        return None
    name, rest = match["name"], match["rest"]
    said = _ARGUMENT.fullmatch(rest)
    if said is None:
        more, _, argument = rest.partition(" ")
        return SlashCommand(_plain(f"{name}{more}"[:_LONGEST_NAME]), argument.strip(), match["to"] or "")
    return SlashCommand(_plain(name), (said["argument"] or "").strip(), match["to"] or "")


def has_prefix(text: str) -> bool:
    """Whether it begins as the commands of bots that use no slash do: "!roll"."""
    return _PREFIX.match(text.strip()) is not None


def without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text without what stands at those (start, end) indices, and without the gaps that it leaves.

    At the beginning of a line the comma or colon after a name goes with it. Where nothing is taken out, the text
    stays as it is.
    """
    spans = list(spans)
    if not spans:
        return text
    for start, end in sorted(spans, reverse=True):
        before, after = text[:start].rstrip(" \t"), text[end:]
        if not before or before.endswith("\n"):
            after = _CALLED.sub("", after, count=1)
        text = before + after
    return text.strip()


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).lower()
