"""Reading the configuration: the file, over it the environment, over both what the command line says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
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

from glmbot.config.bots import NamedBot, named_bots, without_bot_variables, without_bots
from glmbot.config.complaints import Gathering, Wrong, explained, problems_of, refuse
from glmbot.config.configuration import CORE_SECTIONS, Configuration
from glmbot.config.environment import not_json, wrong_variables
from glmbot.config.file import File, Where, known_part, read_file, unfit_values, unknown
from glmbot.config.models import NamedModel
from glmbot.config.named import named_models, named_plugins, without_named, without_named_variables
from glmbot.config.names import LONGEST_SHOWN, PREFIX, installed_platforms, nearest
from glmbot.config.people import LISTS_OF_IDS, AccessSection
from glmbot.config.section import rooted
from glmbot.keys import UserKey

__all__ = ["load_configuration", "plugin_tables"]


def plugin_tables(file: File, environment: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """What [plugins.NAME] and GLMBOT_PLUGINS__NAME__KEY say, by name. Raises ConfigError."""
    return named_plugins(file.where, file.table, environment)


def load_configuration(
    file: Path | File | None,
    adapter_settings: Mapping[str, type[BaseModel]],
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    engine_settings: Mapping[str, type[BaseModel]] | None = None,
) -> Configuration:
    """Read the file (or only defaults), then the environment, then `overrides` from the command line.

    An adapter runs when its section is there, in any of them. engine_settings: of each kind of engine that
    plug-ins bring. Relative paths in the file count from its folder. Raises ConfigError that names file, line and
    key, and the nearest valid name, of all that is wrong.
    """
    if not isinstance(file, File):
        file = read_file(file)
    where, table = file.where, file.table
    models: dict[str, type[BaseModel]] = {**CORE_SECTIONS, **adapter_settings}
    bots, read, models_by_name = dict[str, NamedBot](), dict[str, BaseModel](), dict[str, NamedModel]()
    gathering = Gathering()
    with gathering.part():
        bots = named_bots(file, adapter_settings, environment)
    with gathering.part():
        rest = without_bots(file, adapter_settings, without_named(table))
        variables = without_bot_variables(adapter_settings, without_named_variables(environment))
        read = _read_sections(where, rest, variables, models, overrides)
    with gathering.part():
        default = getattr(read.get("model"), "name", "")
        models_by_name = named_models(file, environment, default, engine_settings or {})
    gathering.end()
    sections: dict[str, Any] = {name: rooted(section, file.folder) for name, section in read.items()}
    core = {name: sections.pop(name) for name in CORE_SECTIONS}
    _refuse_unknown_platforms(where, core["access"], {*adapter_settings, *installed_platforms(), *bots})
    return Configuration(
        **core,
        adapters=sections | {name: bot.settings for name, bot in bots.items()},
        bots={name: bot.own for name, bot in bots.items()},
        named_models=models_by_name,
        plugins=plugin_tables(file, environment),
        folder=file.folder,
    )


def _read_sections(
    where: Where,
    table: Mapping[str, Any],
    environment: Mapping[str, str],
    models: Mapping[str, type[BaseModel]],
    overrides: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, BaseModel]:
    """Every section of the core, and those of adapters that are there."""
    table = {name: content for name, content in table.items() if name != "plugins"}
    variables = wrong_variables(environment, models)
    wrong = [*unknown(where, table, models), *unfit_values(where, table), *variables.values()]
    known = known_part(table, models)
    environment = {name: value for name, value in environment.items() if name not in variables}
    merged = _merge(known, cast(dict[str, Any], dict(overrides or {})))
    try:
        settings = _settings_class(models, environment)(**merged)
    except ValidationError as error:
        problems = problems_of(error)
        if wrong:
            # What is missing may stand there under a wrong name.
            problems = [each for each in problems if each["type"] != "missing" and len(each["loc"]) > 1]
        raise Wrong([*wrong, *explained(problems, where, models, environment)]) from None
    except (SettingsError, RecursionError):
        raise Wrong([*wrong, partial(not_json, environment, models)]) from None
    refuse(wrong)
    read = {name: getattr(settings, name) for name in models}
    return {name: section for name, section in read.items() if isinstance(section, BaseModel)}


def _settings_class(models: Mapping[str, type[BaseModel]], environment: Mapping[str, str]) -> Any:
    """One field per section, read from what it is made with and over that from `environment`."""

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

    fields: dict[str, Any] = {
        name: ((model, Field(default_factory=model)) if name in CORE_SECTIONS else (model | None, None))
        for name, model in models.items()
    }
    return create_model("Settings", __base__=_Settings, **fields)


def _refuse_unknown_platforms(where: Where, access: AccessSection, known: set[str]) -> None:
    named = {
        "open_platforms": access.open_platforms,
        **{key: [UserKey.by_hand(each).platform for each in getattr(access, key)] for key in LISTS_OF_IDS},
    }
    refuse(
        partial(_no_platform, where, key, platform, known)
        for key, platforms in named.items()
        for platform in platforms
        if platform not in known
    )


def _no_platform(where: Where, key: str, platform: str, known: set[str]) -> str:
    return (
        f"{where.at('access', key)}: [access] {key}: there is no platform"
        f" {platform[:LONGEST_SHOWN]!r}{nearest(platform, known)}"
    )


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[name] = _merge(cast(dict[str, Any], old), cast(dict[str, Any], value)) if both else value
    return merged
