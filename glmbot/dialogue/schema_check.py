"""Arguments held to a JSON schema of anybody's: in bounded time, and without asking for what stands elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from math import inf
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry

__all__ = ["first_error"]

_LONGEST_CHECK_S = 2.0
_CHECKED_UNTIL: ContextVar[float] = ContextVar("checked until", default=inf)


def _in_time(keyword: Callable[..., Any]) -> Callable[..., Any]:
    """A schema whose parts refer to each other can be looked at for ever. Raises TimeoutError."""

    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if time.monotonic() > _CHECKED_UNTIL.get():
            raise TimeoutError
        return keyword(validator, value, instance, schema)

    return checked


# Somebody else's pattern could take for ever, and what a schema refers to elsewhere is not got from there.
_KEYWORDS: Mapping[str, Any] = {
    **{name: _in_time(keyword) for name, keyword in Draft202012Validator.VALIDATORS.items()},
    "pattern": None,
    "patternProperties": None,
}
_CHECKED: Any = extend(Draft202012Validator, _KEYWORDS)
_NOWHERE: Any = Registry()


def first_error(schema: Mapping[str, Any], arguments: object) -> ValidationError | None:
    """None where they hold to it. Takes seconds at most, and belongs into a thread. Raises whatever keeps it from
    being checked, TimeoutError among that."""
    until = _CHECKED_UNTIL.set(time.monotonic() + _LONGEST_CHECK_S)
    try:
        return next(_CHECKED(dict(schema), registry=_NOWHERE).iter_errors(arguments), None)
    finally:
        _CHECKED_UNTIL.reset(until)
