"""What an adapter says of itself to people: its names, and what `glmbot init` asks who sets it up.

Found by the entry-point group `glmbot.introductions`, under the name of the platform's section, and read without
the library that the adapter needs. Words are by language, "en" and "zh".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

__all__ = ["Introduction", "Question", "introductions"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """`key`: the setting that the answer becomes; what is secret goes into a file that `key`_file names.

    form: a regular expression for the whole answer; an empty one leaves the setting out. wrong: said of others.
    """

    key: str
    words: Mapping[str, str]
    form: str = ".+"
    wrong: Mapping[str, str] = field(default_factory=dict[str, str])
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Introduction:
    """questions: none where `glmbot init` has nothing to ask. then: what to do next where nobody is named as an
    administrator; `{option}` stands for what follows `glmbot pair CODE --admin`.

    id_form: what a person's id looks like there, "" where it may be any text. The lower the `rank`, the sooner it
    is asked about. token_shapes: regular expressions of what its tokens look like in any text, which no log shows.
    loggers: of its libraries that write at INFO what people say, or addresses with a token in them.
    """

    title: Mapping[str, str]
    questions: Sequence[Question] = ()
    then: Mapping[str, str] = field(default_factory=dict[str, str])
    id_form: str = ""
    rank: int = 1000
    token_shapes: Sequence[str] = ()
    loggers: Sequence[str] = ()


def introductions() -> dict[str, Introduction]:
    """Of all adapters that are installed, with or without their libraries, by rank and title."""
    found: dict[str, Introduction] = {}
    for entry in entry_points(group="glmbot.introductions"):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # whatever somebody else's adapter trips over
            _log.debug("the introduction of %s is not available: %s", entry.name, error)
    return dict(sorted(found.items(), key=lambda each: (each[1].rank, each[1].title["en"])))
