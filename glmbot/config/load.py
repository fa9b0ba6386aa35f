"""Reading the configuration: the file, over it the environment, over both what the command line says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from glmbot.config.bounds import unfit
from glmbot.config.complaints import explained, problems_of
from glmbot.config.configuration import CORE_SECTIONS, Configuration
from glmbot.config.environment import (
    PLUGIN_VARIABLE,
    named_in_environment,
    not_json,
    of_variable,
    refuse_unknown_variables,
)
from glmbot.config.file import Where, read_file, refuse_unfit, refuse_unknown
from glmbot.config.models import MODEL_NAME, NamedLocalModel, NamedRemoteModel
from glmbot.config.names import LONGEST_SHOWN, PREFIX, nearest
from glmbot.config.people import LISTS_OF_IDS, AccessSection
from glmbot.config.section import rooted
from glmbot.errors import ConfigError
from glmbot.keys import UserKey

__all__ = ["load_configuration", "plugin_tables"]

_MOST_MODELS = 100
_BUILT_IN = ("console", "discord", "telegram", "web")
_PLUGINS = "plugins"
_MOST_PLUGINS = 200


def plugin_tables(path: Path | None, environment: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """What [plugins.NAME] and GLMBOT_PLUGINS__NAME__KEY say, by name. Raises ConfigError."""
    text, table = read_file(path)
    return _plugin_tables(Where(path, text), table, environment)


def _plugin_tables(where: Where, table: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    found = table.get(_PLUGINS, {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise ConfigError(f"{where.at(_PLUGINS, _PLUGINS)}: plugins must be sections: [plugins.NAME]")
    tables: dict[str, Any] = {name: dict(content) for name, content in found.items()}
    if complaint := unfit(tables):
        raise ConfigError(f"{where.at(_PLUGINS)}: [plugins]: {complaint}")
    for variable, value in environment.items():
        if not variable.upper().startswith(PLUGIN_VARIABLE):
            continue
        name, _, key = variable[len(PLUGIN_VARIABLE) :].lower().partition("__")
        if not name or not key:
            raise ConfigError(
                f"environment variable {variable[:LONGEST_SHOWN]}: it is GLMBOT_PLUGINS__NAME__KEY"
            )
        tables.setdefault(name, {})[key] = of_variable(value)
    if len(tables) > _MOST_PLUGINS:
        raise ConfigError(f"{where.at(_PLUGINS)}: [plugins] has more than {_MOST_PLUGINS} sections")
    return tables


def load_configuration(
    path: Path | None,
    adapter_settings: Mapping[str, type[BaseModel]],
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Configuration:
    """Read the file (or only defaults), then the environment, then `overrides` from the command line.

    An adapter runs when its section is there, in any of them. Relative paths in the file count from its folder.
    Raises ConfigError that names file, line and key, and the nearest valid name.
    """
    text, table = read_file(path)
    models: dict[str, type[BaseModel]] = {**CORE_SECTIONS, **adapter_settings}
    where = Where(path, text)
    plugins = _plugin_tables(where, table, environment)
    table = {name: content for name, content in table.items() if name != _PLUGINS}
    table, named = _apart(table)
    environment, named = named_in_environment(environment, named)
    refuse_unknown(where, table, models)
    refuse_unfit(where, table)
    refuse_unknown_variables(environment, models)
    merged = _merge(table, cast(dict[str, Any], dict(overrides or {})))
    fields: dict[str, Any] = {
        name: ((model, Field(default_factory=model)) if name in CORE_SECTIONS else (model | None, None))
        for name, model in models.items()
    }

    class _Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = EnvSettingsSource(settings_cls)
            source.env_vars = {name.lower(): value for name, value in environment.items()}
            return source, init_settings

    settings_class: Any = create_model("Settings", __base__=_Settings, **fields)
    try:
        settings = settings_class(**merged)
    except ValidationError as error:
        raise ConfigError(explained(problems_of(error), where, models, environment)) from None
    except (SettingsError, RecursionError):
        raise ConfigError(not_json(environment, models)) from None
    base = path.parent if path else Path()
    sections: dict[str, Any] = {
        name: rooted(section, base)
        for name in models
        if isinstance(section := getattr(settings, name), BaseModel)
    }
    core = {name: sections.pop(name) for name in CORE_SECTIONS}
    _refuse_unknown_platforms(where, core["access"], {*adapter_settings, *_BUILT_IN})
    return Configuration(
        **core,
        adapters=sections,
        named_models=_named_models(where, named, core["model"].name, base),
        plugins=plugins,
        folder=base,
    )


def _refuse_unknown_platforms(where: Where, access: AccessSection, known: set[str]) -> None:
    named = {
        "open_platforms": access.open_platforms,
        **{key: [UserKey.by_hand(each).platform for each in getattr(access, key)] for key in LISTS_OF_IDS},
    }
    for key, platforms in named.items():
        for platform in platforms:
            if platform not in known:
                raise ConfigError(
                    f"{where.at('access', key)}: [access] {key}: there is no platform"
                    f" {platform[:LONGEST_SHOWN]!r}{nearest(platform, known)}"
                )


def _apart(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The sections as they are, and each [models.NAME] by its name."""
    content: Any = table.get("models")
    if not isinstance(content, dict):
        return dict(table), {}
    content = cast(dict[str, Any], content)
    named = {name: value for name, value in content.items() if isinstance(value, dict)}
    return {**table, "models": {key: value for key, value in content.items() if key not in named}}, named


def _named_models(
    where: Where, named: Mapping[str, dict[str, Any]], default: str, base: Path
) -> dict[str, NamedLocalModel | NamedRemoteModel]:
    """Raises ConfigError."""
    if len(named) > _MOST_MODELS:
        raise ConfigError(
            f"{where.at('models')}: [models] has {len(named)} models, and may have {_MOST_MODELS}"
        )
    found: dict[str, NamedLocalModel | NamedRemoteModel] = {}
    for name, content in named.items():
        section = f"models.{name}"
        at = where.at(section)
        if not MODEL_NAME.fullmatch(name):
            raise ConfigError(
                f"{at}: [models.{name[:LONGEST_SHOWN]}]: a model's name is 1 to 64 letters, digits, dots,"
                " underscores and hyphens"
            )
        if name.lower() in {each.lower() for each in (*found, default)}:
            raise ConfigError(f"{at}: [{section}]: another model has this name")
        kind = NamedRemoteModel if "servers" in content else NamedLocalModel
        if "path" not in content and kind is NamedLocalModel:
            raise ConfigError(f"{at}: [{section}] needs path, a model's folder, or servers")
        refuse_unknown(where, {section: content}, {section: kind})
        refuse_unfit(where, {section: content})
        try:
            model = kind.model_validate(content)
        except ValidationError as error:
            raise ConfigError(explained(problems_of(error, section), where, {section: kind}, {})) from None
        found[name] = rooted(model, base)
    return found


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[name] = _merge(cast(dict[str, Any], old), cast(dict[str, Any], value)) if both else value
    return merged
