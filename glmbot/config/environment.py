"""What variables of the environment say, and which of them are mistakes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import partial
from typing import get_origin

from pydantic import BaseModel

from glmbot.config.bounds import unfit
from glmbot.config.file import Complaint
from glmbot.config.names import LONGEST_SHOWN, PREFIX, nearest, variable_name

__all__ = ["not_json", "wrong_variables"]

# By the kernels, which are loaded without any configuration, and by the tests.
_READ_ELSEWHERE = ("GLMBOT_NATIVE", "GLMBOT_FUZZ")


def wrong_variables(
    environment: Mapping[str, str], models: Mapping[str, type[BaseModel]]
) -> dict[str, Complaint]:
    """Those of ours that are not known, or whose value is none, by name."""
    known = [variable_name(section, key) for section, model in models.items() for key in model.model_fields]
    known += [*_READ_ELSEWHERE, "GLMBOT_MODELS__NAME__KEY", "GLMBOT_PLUGINS__NAME__KEY"]
    sections = {variable_name(section, "") for section in models}
    wrong: dict[str, Complaint] = {}
    for name, value in environment.items():
        if not name.upper().startswith(PREFIX):
            continue
        if complaint := unfit(value):
            wrong[name] = partial("environment variable {}: {}".format, name[:LONGEST_SHOWN], complaint)
        elif name.upper() not in known and name.upper() not in sections:
            wrong[name] = partial(_not_known, name, known)
    return wrong


def _not_known(name: str, known: Collection[str]) -> str:
    return f"environment variable {name[:LONGEST_SHOWN]} is not known{nearest(name, known)}"


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
