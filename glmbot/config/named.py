"""[models.NAME], [plugins.NAME], [PLATFORM.NAME]: sections whose names the operator chooses, in the file and the
environment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from glmbot.config.bounds import unfit
from glmbot.config.complaints import Gathering, Wrong, explained, problems_of, refuse
from glmbot.config.file import File, Where, unfit_values, unknown, unknown_keys
from glmbot.config.models import (
    MODEL_NAME,
    NamedLocalModel,
    NamedModel,
    NamedPluginModel,
    NamedRemoteModel,
)
from glmbot.config.names import LONGEST_SHOWN, nearest, variable_name
from glmbot.config.section import keys_of, rooted
from glmbot.errors import ConfigError

__all__ = [
    "SectionReader",
    "name_and_key",
    "named_in",
    "named_models",
    "named_plugins",
    "tables",
    "without_named",
    "without_named_variables",
]

_Model = TypeVar("_Model", bound=BaseModel)
_MODELS, _PLUGINS = "models", "plugins"
_MOST = {_MODELS: 100, _PLUGINS: 200}
_MOST_BOTS = 50


def named_plugins(where: Where, table: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the file and the environment say of [plugins.NAME], by name, unread. Raises ConfigError."""
    if without_named(table).get(_PLUGINS, {}) != {}:
        raise ConfigError(f"{where.at(_PLUGINS, _PLUGINS)}: plugins must be sections: [plugins.NAME]")
    return tables(_PLUGINS, where, table, environment)


def named_models(
    file: File,
    environment: Mapping[str, str],
    default: str,
    engine_settings: Mapping[str, type[BaseModel]],
) -> dict[str, NamedModel]:
    """The models of [models.NAME], by name; `default` is the name of [model]. Raises ConfigError."""
    where, gathering = file.where, Gathering()
    found: dict[str, NamedModel] = {}
    for name, content in tables(_MODELS, where, file.table, environment).items():
        with gathering.part():
            section = f"{_MODELS}.{name}"
            _refuse_name(where, name, {*found, default})
            reader = SectionReader(section, where, content, environment)
            if "engine" in content:
                found[name] = _plugged_model(reader, engine_settings, file.folder)
            else:
                found[name] = rooted(_model_of_ours(reader), file.folder)
    gathering.end()
    return found


def _refuse_name(where: Where, name: str, others: Collection[str]) -> None:
    at, section = where.at(f"{_MODELS}.{name}"), f"{_MODELS}.{name[:LONGEST_SHOWN]}"
    if not MODEL_NAME.fullmatch(name):
        raise ConfigError(
            f"{at}: [{section}]: a model's name is 1 to 64 letters, digits, dots, underscores and hyphens"
        )
    if name.lower() in {each.lower() for each in others}:
        raise ConfigError(f"{at}: [{section}]: another model has this name")


@dataclass(frozen=True, slots=True)
class SectionReader:
    """One section: its `content`, and where that comes from."""

    section: str
    where: Where
    content: Mapping[str, Any]
    environment: Mapping[str, str]

    def read(self, model: type[_Model], keys: Container[str] | None = None) -> _Model:
        """The section, or these of its keys, as the model has it. Raises ConfigError."""
        content = {key: value for key, value in self.content.items() if keys is None or key in keys}
        try:
            return model.model_validate(content)
        except ValidationError as error:
            problems = problems_of(error, self.section)
            raise Wrong(explained(problems, self.where, {self.section: model}, self.environment)) from None


def _model_of_ours(reader: SectionReader) -> NamedLocalModel | NamedRemoteModel:
    section, where, content = reader.section, reader.where, reader.content
    kind = NamedRemoteModel if "servers" in content else NamedLocalModel
    if "path" not in content and kind is NamedLocalModel:
        raise ConfigError(
            f"{where.at(section)}: [{section}] needs path, a model's folder, or servers, or engine"
        )
    refuse(unknown(where, {section: content}, {section: kind}))
    return reader.read(kind)


def _plugged_model(
    reader: SectionReader, engine_settings: Mapping[str, type[BaseModel]], base: Path
) -> NamedPluginModel:
    """Of a plug-in's engine, which has keys of its own beside those of all engines."""
    section, where, kind = reader.section, reader.where, reader.content["engine"]
    own = engine_settings.get(kind) if isinstance(kind, str) else None
    if own is None:
        known = nearest(str(kind), engine_settings) if engine_settings else "; none is installed"
        raise ConfigError(
            f"{where.at(section, 'engine')}: [{section}] engine: no plug-in brings an engine"
            f" {str(kind)[:LONGEST_SHOWN]!r}{known}"
        )
    mine = NamedPluginModel.model_fields.keys() - {"settings"}
    theirs = keys_of(own)
    if own.model_config.get("extra") == "allow":
        theirs |= reader.content.keys() - mine
    refuse(unknown_keys(where, section, reader.content, mine | theirs))
    model = reader.read(NamedPluginModel, mine)
    try:
        settings = rooted(reader.read(own, theirs), base)
    except ConfigError:
        raise
    except Exception as error:
        # What a plug-in checks its settings by may raise anything.
        raise ConfigError(f"{where.at(section)}: [{section}]: {type(error).__name__}: {error}") from error
    return model.model_copy(update={"settings": settings})


def without_named(table: Mapping[str, Any]) -> dict[str, Any]:
    """The file without its named sections: what is left of [models] are its own keys."""
    rest = dict(table)
    for section in _MOST:
        if isinstance(content := table.get(section), dict):
            named = named_in(table, section)
            rest[section] = {key: value for key, value in content.items() if key not in named}
    return rest


def without_named_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        variable: value
        for variable, value in environment.items()
        if not any(name_and_key(section, variable) for section in _MOST)
    }


def tables(
    section: str,
    where: Where,
    table: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    keys: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """What the file says of [SECTION.NAME], and over it the environment as GLMBOT_SECTION__NAME__KEY.

    keys: of the section itself, which are no names."""
    found = {name: dict(content) for name, content in named_in(table, section, keys).items()}
    most = _MOST.get(section, _MOST_BOTS)
    for variable, value in environment.items():
        if (parts := name_and_key(section, variable, keys)) is None:
            continue
        if complaint := unfit(value):
            raise ConfigError(f"environment variable {variable[:LONGEST_SHOWN]}: {complaint}")
        upper, key = parts
        # As `variable_name` writes it; what no section is called so is a bot's name, with its hyphens.
        meant = f"{variable_name(section, '')}__{upper}"
        name = next((each for each in found if variable_name(f"{section}.{each}", "") == meant), "")
        new = upper.lower() if section in _MOST else upper.lower().replace("_", "-")
        found.setdefault(name or new, {})[key.lower()] = _of_variable(value)
    if len(found) > most:
        raise ConfigError(
            f"{where.at(section)}: there are {len(found)} sections [{section}.NAME], and at most {most} are taken"
        )
    refuse(unfit_values(where, {f"{section}.{name}": content for name, content in found.items()}))
    return found


def named_in(table: Mapping[str, Any], section: str, keys: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    content: Any = table.get(section)
    if not isinstance(content, dict):
        return {}
    named = cast(dict[str, Any], content).items()
    return {name: each for name, each in named if isinstance(each, dict) and name not in keys}


def name_and_key(section: str, variable: str, keys: Collection[str] = ()) -> tuple[str, str] | None:
    """Of GLMBOT_SECTION__NAME__KEY, in upper case; None for any other variable, and where the name is a key."""
    prefix = variable_name(section, "") + "__"
    name, _, key = variable.upper().removeprefix(prefix).partition("__")
    if not variable.upper().startswith(prefix) or not name or not key or name.lower() in keys:
        return None
    return name, key


def _of_variable(value: str) -> Any:
    """Lists and tables are JSON in the environment."""
    if value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value
