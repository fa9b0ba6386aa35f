"""JSON from outside, and what stands in it: nothing is taken to be what it should be before it was looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = ["Fields", "as_fields", "as_object", "fields_of", "matching", "objects_in", "parsed", "text_of"]

Fields = Mapping[str, Any]


def parsed(content: str | bytes) -> object:
    """Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def as_object(given: object) -> dict[str, Any]:
    """Raises ValueError for what is none."""
    if not isinstance(given, dict):
        raise ValueError("an object is missing")
    return cast(dict[str, Any], given)


def as_fields(given: object) -> Fields:
    """None where it is no object."""
    return cast(Fields, given) if isinstance(given, Mapping) else {}


def fields_of(fields: Fields, name: str) -> Fields:
    """None where it is missing, or no object."""
    return as_fields(fields.get(name))


def objects_in(given: object, most: int | None = None) -> Sequence[Fields]:
    """Those among the first `most` members of a list; none where it is no list."""
    each = cast(list[object], given)[:most] if isinstance(given, list) else []
    return [cast(Fields, one) for one in each if isinstance(one, Mapping)]


def text_of(fields: Fields, name: str) -> str:
    """ "" where it is missing. Raises ValueError for what is no text."""
    given = fields.get(name)
    if given is None:
        return ""
    if not isinstance(given, str):
        raise ValueError(f"{name} must be text")
    return given


def matching(form: re.Pattern[str], given: object) -> str:
    """An id or the like. Raises ValueError for what the form does not match whole."""
    if not isinstance(given, str) or form.fullmatch(given) is None:
        raise ValueError("an id, or the like, is of another form")
    return given
