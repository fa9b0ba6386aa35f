"""What a message asks, read by itself. Pure."""

from __future__ import annotations

import unicodedata

from glmbot.messages import Message

__all__ = ["asked_text", "is_blank", "readable"]

_LONGEST_QUOTE = 2000


def asked_text(message: Message) -> str:
    """The question with what it quotes in front, as Markdown; where it says nothing else, what it quotes."""
    said, quoted = message.text.strip(), message.quoted.strip()
    if not quoted:
        return said
    whose = f"{message.quoted_from.strip()}:\n" if message.quoted_from.strip() else ""
    if is_blank(said):
        return whose + quoted
    quoted = (whose + quoted[:_LONGEST_QUOTE]).replace("\n", "\n> ")
    return f"> {quoted}\n\n{said}"


def readable(message: Message) -> str:
    """The same; "" where nothing of it can be read."""
    text = asked_text(message)
    return "" if is_blank(text) else text


def is_blank(text: str) -> bool:
    """Nothing but white space and invisible format characters (zero-width space, direction marks)."""
    return all(char.isspace() or unicodedata.category(char) in ("Cf", "Cc") for char in text)
