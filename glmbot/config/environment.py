"""What variables of the environment say, and which of them are mistakes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel

from glmbot.config.bounds import unfit
from glmbot.config.models import NamedRemoteModel
from glmbot.config.names import LONGEST_SHOWN, PREFIX, nearest, variable_name
from glmbot.errors import ConfigError

__all__ = ["PLUGIN_VARIABLE", "named_in_environment", "not_json", "of_variable", "refuse_unknown_variables"]

PLUGIN_VARIABLE = "GLMBOT_PLUGINS__"
# By the kernels, which are loaded without any configuration, and by the tests.
_READ_ELSEWHERE = ("GLMBOT_NATIVE", "GLMBOT_FUZZ")


def named_in_environment(
    environment: Mapping[str, str], named: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What the environment says of [models.NAME], as GLMBOT_MODELS__NAME__KEY: a list is JSON there."""
    rest: dict[str, str] = {}
    merged = {name: dict(content) for name, content in named.items()}
    prefix = variable_name("models", "") + "__"
    for variable, value in environment.items():
        name, _, key = variable.upper().removeprefix(prefix).partition("__")
        if not variable.upper().startswith(prefix) or not key:
            rest[variable] = value
            continue
        if complaint := unfit(value):
            raise ConfigError(f"environment variable {variable[:LONGEST_SHOWN]}: {complaint}")
        known = next((each for each in merged if each.upper() == name), name.lower())
        merged.setdefault(known, {})[key.lower()] = _from_environment(variable, key.lower(), value)
    return rest, merged


def _from_environment(variable: str, key: str, value: str) -> Any:
    field = NamedRemoteModel.model_fields.get(key)
    if field is None or get_origin(field.annotation) is not list:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ConfigError(
            f"environment variable {variable[:LONGEST_SHOWN]}: a list is written as JSON there"
        ) from None


def of_variable(value: str) -> Any:
    """Lists and tables are JSON in the environment."""
    if value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def refuse_unknown_variables(environment: Mapping[str, str], models: Mapping[str, type[BaseModel]]) -> None:
    known = [variable_name(section, key) for section, model in models.items() for key in model.model_fields]
    known += _READ_ELSEWHERE
    sections = {variable_name(section, "") for section in models}
    for name in environment:
        if not name.upper().startswith(PREFIX):
            continue
        if complaint := unfit(environment[name]):
            raise ConfigError(f"environment variable {name[:LONGEST_SHOWN]}: {complaint}")
        if name.upper() in known or name.upper() in sections or name.upper().startswith(PLUGIN_VARIABLE):
            continue
        raise ConfigError(f"environment variable {name[:LONGEST_SHOWN]} is not known{nearest(name, known)}")


def not_json(environment: Mapping[str, str], models: Mapping[str, type[BaseModel]]) -> str:
    """Lists and whole sections are JSON in the environment."""
    names = {variable_name(section, "") for section in models} | {
        variable_name(section, key)
        for section, model in models.items()
        for key, field in model.model_fields.items()
        if get_origin(field.annotation) is list
    }
    wrong: list[str] = []
    for name, value in environment.items():
        if name.upper() in names:
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                wrong.append(name)
    return (
        f"environment: {', '.join(sorted(wrong))}: a list or a whole section is written as JSON there,"
        " such as GLMBOT_ACCESS__ADMINS='[\"telegram:123456789\"]'"
    )
