"""What sections and keys are called: in the environment, by people who mistype them, and in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Set
from importlib.metadata import entry_points
from typing import Any

from pydantic.fields import FieldInfo

__all__ = [
    "ADAPTERS",
    "LONGEST_SHOWN",
    "PREFIX",
    "first_sentence",
    "installed_platforms",
    "meaning_of",
    "nearest",
    "unit_of",
    "variable_name",
]

ADAPTERS = "glmbot.adapters"
"""The group of entry points."""

PREFIX = "GLMBOT_"
LONGEST_SHOWN = 200
# By the ends of their names. What is not here is a plain number, such as a port or a temperature.
_UNITS = {
    "_s": "seconds",
    "_minutes": "minutes",
    "_gb": "GB",
    "_mb": "MB",
    "_days": "days",
    "_tokens": "tokens",
    "_length": "tokens",
    "_per_hour": "questions an hour",
    "pending_per_user": "questions",
    "pending_per_source": "questions",
    "turn_limit": "turns",
    "queue_limit": "requests",
    "max_batch": "answers",
    "tensor_parallel": "processes",
    "parallel": "answers",
    "tries": "attempts",
    "journal_limit": "steps",
    "threads": "threads",
    "shards": "connections",
    "max_connections": "connections",
}


def variable_name(section: str, key: str) -> str:
    """In the environment. There the hyphens of a bot's name are "_", which it has none of; a model's stay."""
    if section.partition(".")[0] not in ("models", "plugins"):
        section = section.replace("-", "_")
    return f"{PREFIX}{section.replace('.', '__', 1)}{f'__{key}' if key else ''}".upper()


def installed_platforms() -> Set[str]:
    """Also those whose library is missing."""
    return {entry.name for entry in entry_points(group=ADAPTERS)}


def nearest(name: str, known: Any) -> str:
    candidates = [str(each) for each in known]
    close = difflib.get_close_matches(name[:LONGEST_SHOWN], candidates, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(sorted(candidates))}"


def unit_of(key: str) -> str:
    """What a number of this name counts; "" for a plain one."""
    return next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")


def meaning_of(section: str, field: FieldInfo) -> str:
    """The English words for a key; settings that several platforms share do not know their section's name."""
    return (field.description or "").replace("GLMBOT_SECTION__", variable_name(section, "") + "__")


def first_sentence(section: str, field: FieldInfo) -> str:
    return meaning_of(section, field).split(". ")[0].rstrip(".")
