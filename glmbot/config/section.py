"""What every section is: keys that are known, and no others; paths from the file's folder; secrets that stay out
of the log."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, SecretStr

__all__ = ["Section", "checked_address", "keys_of", "rooted", "secrets_of"]

_Model = TypeVar("_Model", bound=BaseModel)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def checked_address(url: str, example: str, place_of_secrets: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(example)
    if parts.username or parts.password:
        raise ValueError(f"an address holds no password; use {place_of_secrets}")
    return url


def keys_of(section: type[BaseModel]) -> set[str]:
    """What its keys may be called in a file: a model of a plug-in's may know them by aliases."""
    found = set(section.model_fields)
    for field in section.model_fields.values():
        alias = field.validation_alias or field.alias
        for each in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            first = each.path[0] if isinstance(each, AliasPath) else each
            if isinstance(first, str):
                found.add(first)
    return found


def rooted(section: _Model, base: Path) -> _Model:
    """Relative paths count from the folder of the file."""
    moved = {name: _below(base, getattr(section, name)) for name in type(section).model_fields}
    return section.model_copy(update={name: value for name, value in moved.items() if value is not None})


def _below(base: Path, value: object) -> object:
    """A path, or the paths of a list, from `base`; an absolute one stays. None for whatever is no path."""
    if isinstance(value, Path):
        return base / value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(each, Path) for each in cast(list[object], value))
    ):
        return [base / each for each in cast(list[Path], value)]
    return None


def secrets_of(section: BaseModel) -> list[str]:
    """Every secret value in a section, for the log filter, those in files of their own too."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    secrets = [secret for value in values.values() for secret in _secrets_in(value)]
    for name, file in values.items():
        if isinstance(file, Path) and name.removesuffix("_file") in values:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                secrets += file.read_text("utf-8").split()
    return secrets


def _secrets_in(value: object) -> list[str]:
    """A plug-in's section may hold them by names of its user's."""
    match value:
        case SecretStr():
            return [value.get_secret_value()]
        case BaseModel():
            return secrets_of(value)
        case dict():
            return [
                secret for each in cast(dict[str, object], value).values() for secret in _secrets_in(each)
            ]
        case list():
            return [secret for each in cast(list[object], value) for secret in _secrets_in(each)]
        case _:
            return []
