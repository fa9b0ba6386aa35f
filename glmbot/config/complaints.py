"""What a validation found, as its reader can mend it: the file, the line, the key, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from glmbot.config.file import Where
from glmbot.config.names import first_sentence, unit_of, variable_name

__all__ = ["explained", "problems_of"]

_PROBLEMS_TOLD = 20
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def problems_of(error: ValidationError, section: str = "") -> list[Mapping[str, Any]]:
    found: list[Any] = list(error.errors(include_url=False, include_input=False))
    return [{**each, "loc": (section, *each["loc"])} for each in found] if section else found


def explained(
    problems: Sequence[Mapping[str, Any]],
    where: Where,
    models: Mapping[str, type[BaseModel]],
    environment: Mapping[str, str],
) -> str:
    from_environment = {name.upper() for name in environment}
    lines: list[str] = []
    for problem in problems[:_PROBLEMS_TOLD]:
        location = [str(part) for part in problem["loc"]]
        section, key = location[0], location[1] if len(location) > 1 else ""
        field = models[section].model_fields.get(key) if section in models else None
        hint = f" ({first_sentence(section, field)})" if field is not None and field.description else ""
        variable = variable_name(section, key)
        place = f"environment variable {variable}" if variable in from_environment else where.at(section, key)
        lines.append(f"{place}: [{section}] {key}: {_complaint(problem, key)}{hint}")
    if len(problems) > _PROBLEMS_TOLD:
        lines.append(f"and {len(problems) - _PROBLEMS_TOLD} more")
    return "\n".join(lines)


def _complaint(problem: Mapping[str, Any], key: str) -> str:
    """The library's words, and the bounds of a number in its unit."""
    name, words = _BOUNDS.get(problem["type"], ("", ""))
    bound = problem.get("ctx", {}).get(name)
    if bound is None:
        return str(problem["msg"])
    number = f"{bound:g}" if isinstance(bound, float) and abs(bound) < 1e6 else f"{bound:.0f}"
    return f"must be {words} {number} {unit_of(key)}".rstrip()
