"""The TOML file: read, and each section and key in it known and of a measure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from glmbot.config.bounds import unfit
from glmbot.config.names import LONGEST_SHOWN, nearest
from glmbot.errors import ConfigError

__all__ = ["Complaint", "File", "Where", "known_part", "read_file", "unfit_values", "unknown", "unknown_keys"]

Complaint = Callable[[], str]
"""Its words are looked for only when it is told: of thousands a few are."""

_LARGEST_FILE = 1 << 20
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")


@dataclass(frozen=True, slots=True)
class Where:
    """Finds the line of a key, which TOML parsers do not tell."""

    path: Path | None
    text: str

    def at(self, section: str, key: str = "") -> str:
        name = str(self.path or "configuration")
        line = self._line(section, key)
        return f"{name}, line {line}" if line else name

    def has_header(self, section: str) -> bool:
        """Whether the section itself is opened there, and not only one below it."""
        headers = (_HEADER.match(line) for line in self.text.splitlines())
        return any(header is not None and header[1].strip("\"'") == section for header in headers)

    def _line(self, section: str, key: str) -> int | None:
        current = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = _HEADER.match(line)
            if header:
                current = header[1].strip("\"'")
                if current == section and not key:
                    return number
                continue
            assigned = re.match(r"\s*([\w.\"'-]+)\s*=", line)
            name = assigned[1].replace('"', "").replace("'", "") if assigned else ""
            if key and (
                (current == section and name == key)
                or (not current and name in (section, f"{section}.{key}"))
            ):
                return number
            if not key and not current and name.split(".")[0] == section:
                return number
        return None


@dataclass(frozen=True, slots=True)
class File:
    """What stands in it. Relative paths count from `folder`."""

    where: Where
    table: Mapping[str, Any]
    folder: Path


def read_file(path: Path | None) -> File:
    """None: a file with nothing in it. Raises ConfigError."""
    if path is None:
        return File(Where(None, ""), {}, Path())
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `glmbot init` writes one") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{path}: has more than {_LARGEST_FILE >> 20} MiB, which is no configuration")
    try:
        return File(Where(path, text), tomllib.loads(text), path.parent)
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: too many levels") from None
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {str(error)[:LONGEST_SHOWN]}") from error


def unknown(
    where: Where, table: Mapping[str, Any], models: Mapping[str, type[BaseModel]]
) -> Iterator[Complaint]:
    """Of sections and of their keys."""
    for section, content in table.items():
        if section not in models:
            yield partial(_no_section, where, section, models)
        elif not isinstance(content, dict):
            yield partial(_not_a_section, where, section)
        else:
            known = models[section].model_fields
            yield from unknown_keys(where, section, cast(dict[str, Any], content), known)


def unknown_keys(
    where: Where, section: str, content: Mapping[str, Any], known: Collection[str]
) -> Iterator[Complaint]:
    return (partial(_no_key, where, section, key, known) for key in content if key not in known)


def unfit_values(where: Where, table: Mapping[str, Any]) -> Iterator[Complaint]:
    for section, content in table.items():
        for key, value in cast(dict[str, Any], content).items() if isinstance(content, dict) else ():
            if complaint := unfit(value):
                yield partial(_unfit, where, section, key, complaint)


def known_part(table: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> dict[str, dict[str, Any]]:
    """Without what `unknown` and `unfit_values` complain of."""
    return {
        section: {
            key: value
            for key, value in cast(dict[str, Any], content).items()
            if key in models[section].model_fields and not unfit(value)
        }
        for section, content in table.items()
        if section in models and isinstance(content, dict)
    }


def _no_section(where: Where, section: str, known: Collection[str]) -> str:
    return f"{where.at(section)}: [{section[:LONGEST_SHOWN]}] is no section{nearest(section, known)}"


def _not_a_section(where: Where, section: str) -> str:
    return f"{where.at(section, section)}: {section} must be a section: [{section}]"


def _no_key(where: Where, section: str, key: str, known: Collection[str]) -> str:
    return f"{where.at(section, key)}: [{section}] has no key {key[:LONGEST_SHOWN]!r}{nearest(key, known)}"


def _unfit(where: Where, section: str, key: str, complaint: str) -> str:
    place = f"[{section[:LONGEST_SHOWN]}] {key[:LONGEST_SHOWN]}"
    return f"{where.at(section, key)}: {place}: {complaint}"
