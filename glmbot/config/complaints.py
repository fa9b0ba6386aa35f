"""What a validation found, as its reader can mend it: the file, the line, the key, and what it takes."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from glmbot.config.file import Complaint, Where
from glmbot.config.names import first_sentence, unit_of, variable_name
from glmbot.errors import ConfigError

__all__ = ["Gathering", "Wrong", "explained", "problems_of", "refuse"]

_MOST_TOLD = 20
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def problems_of(error: ValidationError, section: str = "") -> list[Mapping[str, Any]]:
    found: list[Any] = list(error.errors(include_url=False, include_input=False))
    return [{**each, "loc": (section, *each["loc"])} for each in found] if section else found


class Wrong(ConfigError):
    """All that is wrong; the first of it in words, one line for each."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        lines = [complaint() for complaint in complaints[:_MOST_TOLD]]
        if len(complaints) > _MOST_TOLD:
            lines.append(f"and {len(complaints) - _MOST_TOLD} more")
        super().__init__("\n".join(lines))
        self.complaints = complaints


def refuse(complaints: Iterable[Complaint]) -> None:
    """Raises Wrong where there is any."""
    if found := list(complaints):
        raise Wrong(found)


class Gathering:
    """What is wrong with parts that are read one after the other, so that all of it is told at once."""

    def __init__(self) -> None:
        self.complaints: list[Complaint] = []

    @contextmanager
    def part(self) -> Generator[None]:
        try:
            yield
        except Wrong as error:
            self.complaints += error.complaints
        except ConfigError as error:
            self.complaints.append(partial(str, error))

    def end(self) -> None:
        """Raises Wrong."""
        refuse(self.complaints)


def explained(
    problems: Sequence[Mapping[str, Any]],
    where: Where,
    models: Mapping[str, type[BaseModel]],
    environment: Mapping[str, str],
) -> list[Complaint]:
    from_environment = {name.upper() for name in environment}
    return [partial(_line, problem, where, models, from_environment) for problem in problems]


def _line(
    problem: Mapping[str, Any],
    where: Where,
    models: Mapping[str, type[BaseModel]],
    from_environment: Collection[str],
) -> str:
    location = [str(part) for part in problem["loc"]]
    section, key = location[0], location[1] if len(location) > 1 else ""
    field = models[section].model_fields.get(key) if section in models else None
    hint = f" ({first_sentence(section, field)})" if field is not None and field.description else ""
    variable = variable_name(section, key)
    place = f"environment variable {variable}" if variable in from_environment else where.at(section, key)
    return f"{place}: [{section}] {key}: {_complaint(problem, key)}{hint}"


def _complaint(problem: Mapping[str, Any], key: str) -> str:
    """The library's words, and the bounds of a number in its unit."""
    name, words = _BOUNDS.get(problem["type"], ("", ""))
    bound = problem.get("ctx", {}).get(name)
    if bound is None:
        return str(problem["msg"])
    number = f"{bound:g}" if isinstance(bound, float) and abs(bound) < 1e6 else f"{bound:.0f}"
    return f"must be {words} {number} {unit_of(key)}".rstrip()
