"""What a platform can, as far as delivery decides by it or people notice it, and how long its messages may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Ability", "Profile", "Unit"]


class Ability(StrEnum):
    """What delivery decides by: the first seven. The others are what people notice."""

    EDIT = "edit"
    """A message that was sent can be changed, so that an answer grows in its place."""
    DRAFT = "draft"
    """The growing answer can be shown by a draft, and be sent when it has ended."""
    ONCE = "once"
    """A `send` that is repeated with the same place, by another process too, is taken once."""
    REMOVE = "remove"
    """A message that was sent can be taken back."""
    TYPING = "typing"
    """There is a sign that something is coming."""
    BUTTONS = "buttons"
    """A message can carry commands as buttons."""
    FILE = "file"
    """A message can be a file."""
    APPEND = "append"
    """Words are added to what stands there, one by one, and nothing is taken back."""
    THREAD = "thread"
    """A thread or topic has a history of its own."""
    MARKDOWN = "markdown"
    """The model's Markdown is shown as what it means."""


class Unit(StrEnum):
    """What the length of a message is counted in."""

    CHARACTERS = "characters"
    UTF16 = "UTF-16 units"


@dataclass(frozen=True, slots=True)
class Profile:
    """A platform at its best; an outlet may have less (no drafts in groups).

    longest: what a message may have in `unit`; 0: no limit. visited: people come to it, and whoever is there may
    speak; nothing can be sent that they did not ask for.
    """

    abilities: frozenset[Ability]
    longest: int = 0
    unit: Unit = Unit.CHARACTERS
    visited: bool = False
