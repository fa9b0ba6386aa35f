"""The configuration: one TOML file, overridden by GLMBOT_SECTION__KEY in the environment.

A section per part, and one per adapter, whose settings model the adapter itself brings. Unknown keys are
refused with the nearest name. Secrets come from the environment or from files, and are typed as secrets.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from glmbot.errors import ConfigError
from glmbot.keys import UserKey

__all__ = [
    "CORE_SECTIONS",
    "Configuration",
    "load_configuration",
    "meaning_of",
    "rooted",
    "secrets_in",
    "secrets_of",
    "unit_of",
]

_PREFIX = "GLMBOT_"
_PLUGIN_VARIABLE = "GLMBOT_PLUGINS__"
# By the kernels, which are loaded without any configuration, and by the tests.
_READ_ELSEWHERE = ("GLMBOT_NATIVE", "GLMBOT_FUZZ")
_MOST_TOKENS = 2**20
_MOST_QUESTIONS = 10_000_000
_LARGEST_FILE = 1 << 20
_LONGEST_TEXT = 1 << 16
_MOST_ENTRIES = 10_000
_DEEPEST = 8
_LONGEST_SHOWN = 200
# Paths and addresses hold none of these; prompts have lines.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_MODELS = 100
_BUILT_IN = ("console", "discord", "telegram", "web")
_PROBLEMS_TOLD = 20
_PLUGINS = "plugins"
_MOST_PLUGINS = 200
_Model = TypeVar("_Model", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_server(url: str) -> str:
    return _checked(url, "a server is an address such as http://10.0.0.5:8000/v1", "api_key_file")


def _check_name(name: str) -> str:
    if name and not _MODEL_NAME.fullmatch(name):
        raise ValueError("a model's name is 1 to 64 letters, digits, dots, underscores and hyphens")
    return name


def _check_endpoint(url: str) -> str:
    example = "an endpoint is an address such as http://127.0.0.1:4318/v1/traces"
    return url and _checked(url, example, "OTEL_EXPORTER_OTLP_HEADERS")


def _checked(url: str, example: str, place_of_secrets: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(example)
    if parts.username or parts.password:
        raise ValueError(f"an address holds no password; use {place_of_secrets}")
    return url


class _LocalModel(_Section):
    path: Path = Field(
        default=Path(".glmbot/models/smollm2-135m-instruct"),
        description="Folder of a Transformers model. `glmbot pull` makes the one named here by default.",
    )
    device: str = Field(
        default="auto",
        description='"auto", "cpu", "cuda:1", or several GPUs to spread the layers over: "cuda:0,cuda:1".',
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8", "int4"] = Field(
        default="auto",
        description="auto: that of a quantised checkpoint, else bf16 on a CPU and fp16 on a GPU."
        " Administrators switch it with /precision.",
    )
    prefix_path: Path | None = Field(
        default=None, description="Folder of a P-Tuning v2 checkpoint made for this ChatGLM model."
    )
    chat_format: Literal["auto", "chatglm2", "chatglm3"] = Field(
        default="auto",
        description="For a ChatGLM2 or ChatGLM3 whose files do not say which of both it is.",
    )
    thinking: Literal["auto", "off"] = Field(
        default="auto",
        description="off: a model that thinks before it answers, and whose chat template has a switch for that,"
        " answers at once. Of servers with the chat interface those of vLLM, SGLang and llama.cpp know it.",
    )
    context_length: int = Field(
        default=2048, ge=64, le=_MOST_TOKENS, description="Tokens of history, question and answer together."
    )
    max_answer_tokens: int = Field(
        default=512, ge=1, le=_MOST_TOKENS, description="Tokens kept free for an answer."
    )
    cache_tokens: int = Field(
        default=0,
        ge=0,
        le=2**26,
        description="Size of the KV cache in tokens, for all conversations together."
        " 0: 16384, or context_length where that is more; fewer where memory has no room for them.",
    )
    max_batch: int = Field(default=16, ge=1, le=1024, description="Answers generated at the same time.")
    queue_limit: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Requests that may wait; the next one is told when to come back.",
    )
    prefill_tokens: int = Field(
        default=0,
        ge=0,
        le=_MOST_TOKENS,
        description="Prompt tokens read in one step beside decoding; 0: 128 on a CPU, 512 on a GPU.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads; 0: one for each core it may use."
    )
    load: Literal["start", "first use"] = Field(
        default="start",
        description="When it is loaded: when the bot starts, or when somebody first asks it.",
    )


class ModelSection(_LocalModel):
    """The model, and what it may use of this machine. With others in [models.NAME] it is the default one."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        default="",
        description="What it is called in /model and over HTTP. Empty: as its folder, or as its servers call it.",
    )


class RemoteSection(_Section):
    """The model on other machines: OpenAI-compatible servers (vLLM, SGLang, llama.cpp's, hosted services).
    Then no model is loaded here, and of [model] only name, thinking, context_length, max_answer_tokens and
    queue_limit count."""

    servers: list[Annotated[str, AfterValidator(_check_server)]] = Field(
        default=[],
        description='Like ["http://10.0.0.5:8000/v1"]. Of several, each with the same model, the least busy is'
        " asked, and another goes on when one fails. None: the model runs here.",
    )
    interface: Literal["completions", "chat"] = Field(
        default="completions",
        description="completions sends tokens, so prompts fit exactly and no text can become a control token; it"
        " needs tokenizer. chat leaves the template to the server, as hosted services want it, and counts a"
        " character as a token.",
    )
    tokenizer: Path | None = Field(
        default=None,
        description="Folder of the served model; its configuration and tokenizer files are enough.",
    )
    model: str = Field(
        default="", description="The model's name there. Empty: the first that the server lists."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="The servers' key; better in the environment (GLMBOT_REMOTE__API_KEY), or in api_key_file.",
    )
    api_key_file: Path | None = Field(default=None, description="A file with the key alone in it.")
    parallel: int = Field(
        default=16, ge=1, le=10_000, description="Answers asked for at the same time; others wait in line."
    )
    connect_s: float = Field(default=5.0, gt=0, le=3600, description="Seconds that connecting may take.")
    first_token_s: float = Field(
        default=90.0, gt=0, le=86400, description="Seconds that the first word of an answer may take."
    )
    next_token_s: float = Field(
        default=30.0, gt=0, le=86400, description="Seconds that each next word may take."
    )
    patience_s: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        description="Seconds that an answer waits for a working server before it fails.",
    )


class ModelsSection(_Section):
    """More models to choose from with /model. Each has a section of its own, [models.NAME], with the keys of
    [model] except name (load is "first use" there unless it says otherwise), or those of [remote] and of [model]
    thinking, context_length, max_answer_tokens and queue_limit."""

    memory_gb: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="What the models of this machine may take of its memory together, weights and caches. The one"
        " that was not asked for longest gives way to the next. 0: no bound.",
    )
    idle_minutes: float = Field(
        default=30.0,
        ge=0,
        le=1_000_000,
        description="A model that was not loaded at the start is unloaded when nobody has asked it for so long;"
        " 0: never.",
    )
    people_choose: bool = Field(
        default=False,
        description="Whether everybody chooses the model of their private chats with /model. Administrators always"
        " may, and choose that of a group.",
    )


class NamedLocalModel(_LocalModel):
    """[models.NAME] of a model on this machine."""

    load: Literal["start", "first use"] = Field(default="first use")


class NamedRemoteModel(RemoteSection):
    """[models.NAME] of a model on other machines."""

    servers: list[Annotated[str, AfterValidator(_check_server)]] = Field(min_length=1)
    thinking: Literal["auto", "off"] = Field(default="auto")
    context_length: int = Field(default=2048, ge=64, le=_MOST_TOKENS)
    max_answer_tokens: int = Field(default=512, ge=1, le=_MOST_TOKENS)
    queue_limit: int = Field(default=64, ge=0, le=100_000)


class SamplingSection(_Section):
    """How answers are drawn. What is left out comes from the model's own generation_config.json."""

    temperature: float | None = Field(
        default=None, ge=0, le=5, description="0 always takes the likeliest token."
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus sampling; 1 is off.")
    top_k: int | None = Field(
        default=None, ge=0, lt=2**31, description="Only the k likeliest tokens; 0 is off."
    )
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="1 is off.")


class DialogueSection(_Section):
    """What a conversation is like."""

    system_prompt: str = Field(default="", description="Told to the model before every conversation.")
    turn_limit: int = Field(
        default=20, ge=0, le=10_000, description="Past turns that the model is shown, at most."
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto", description="Language of the bot's own words; auto follows each user's app."
    )
    pending_per_user: int = Field(
        default=5, ge=1, le=1000, description="Questions one person may have in progress."
    )
    pending_per_source: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Questions that one network address or token may have in progress, of programs and of visitors"
        " of the page; at most half of [model] queue_limit.",
    )
    deadline_s: float = Field(
        default=300.0, gt=0, le=86400, description="Seconds after which an answer is ended."
    )
    tries: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Attempts at a message that fails, before it is set aside (see /dead).",
    )


def _check_user(value: str) -> str:
    UserKey.by_hand(value)
    return value


_LISTS_OF_IDS = ("admins", "users", "chats")
_UserId = Annotated[str, AfterValidator(_check_user)]


class AccessSection(_Section):
    """Who may talk to the bot. On Telegram and Discord nobody may, until somebody is named here or paired."""

    admins: list[_UserId] = Field(default=[], description='Like ["telegram:123456789", "discord:987654321"].')
    users: list[_UserId] = Field(default=[], description="People who may talk to the bot.")
    chats: list[_UserId] = Field(
        default=[],
        description='Groups or channels whose members may all talk to the bot: ["telegram:-1001234567890"].',
    )
    open_platforms: list[str] = Field(
        default=[], description='Platforms that are open to everybody: ["discord"].'
    )


class LimitsSection(_Section):
    """How much may be asked. Administrators have no limit, and set others with /limit."""

    user_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions of one person or program in an hour; 0: no limit.",
    )
    chat_per_hour: int = Field(
        default=0, ge=0, le=_MOST_QUESTIONS, description="Questions in one group in an hour; 0: no limit."
    )
    total_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions of all together in an hour, programs included; 0: no limit. Administrators may"
        " always ask.",
    )
    source_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions from one network address or token in an hour, of programs and of visitors of the"
        " page; 0: half of total_per_hour.",
    )
    strangers_per_hour: int = Field(
        default=60,
        ge=0,
        le=_MOST_QUESTIONS,
        description="New visitors of the page from one network address in an hour; 0: no limit.",
    )


class ModerationSection(_Section):
    """What may not be asked or said. Local models can say harmful things."""

    words_file: Path | None = Field(
        default=None,
        description="A text file with a word or phrase on each line; they are refused in questions and answers.",
    )
    command: list[str] = Field(
        default=[],
        description='A program and its arguments, such as ["/usr/local/bin/check"]. It gets JSON on its input and'
        " allows a text by ending with status 0. Answers are then shown when complete.",
    )
    timeout_s: float = Field(default=5.0, gt=0, le=3600, description="Seconds that the program may take.")
    refuse_on_failure: bool = Field(
        default=True, description="Whether a text is refused when the program fails."
    )


class StoreSection(_Section):
    """Where histories are kept."""

    kind: Literal["sqlite", "redis"] = Field(default="sqlite", description='"sqlite" needs no server.')
    path: Path = Field(default=Path(".glmbot/glmbot.sqlite3"), description="The SQLite file.")
    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// (TLS) or unix://; redis+sentinel://host:port,host:port/service;"
        " redis+cluster://host:port.",
    )
    prefix: str = Field(default="glmbot", description="First part of every Redis key.")
    journal_path: Path = Field(
        default=Path(".glmbot/journal.sqlite3"),
        description="Where a process keeps what comes while Redis is away; each process needs a file of its own.",
    )
    journal_limit: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Steps kept there at most; beyond them no message is accepted.",
    )
    claim_s: float = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Seconds after which another process answers what a dead one had begun.",
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="Encrypts what is kept of texts and names; `glmbot key` makes one. Better in the environment"
        " (GLMBOT_STORE__ENCRYPTION_KEY), or in encryption_key_file.",
    )
    encryption_key_file: Path | None = Field(
        default=None, description="A file with one key a line: the first encrypts, all of them decrypt."
    )
    keep_days: float = Field(
        default=0, ge=0, le=36500, description="Days after which turns are deleted; 0 keeps them."
    )


class LogSection(_Section):
    """The log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lines below this level are left out."
    )
    format: Literal["text", "json"] = Field(default="text", description="json writes one object a line.")


class TracingSection(_Section):
    """Traces of single messages (OpenTelemetry). They hold no text of anybody."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        default="",
        description="An OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces. Empty: no traces."
        " Headers that it needs stand in the environment (OTEL_EXPORTER_OTLP_HEADERS).",
    )
    share: float = Field(default=1.0, ge=0, le=1, description="Share of messages that are traced.")


CORE_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelSection,
    "remote": RemoteSection,
    "models": ModelsSection,
    "sampling": SamplingSection,
    "dialogue": DialogueSection,
    "access": AccessSection,
    "limits": LimitsSection,
    "moderation": ModerationSection,
    "store": StoreSection,
    "log": LogSection,
    "tracing": TracingSection,
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """`adapters` holds the validated settings of each adapter whose section is enabled, by entry-point name;
    `named_models` those of each [models.NAME], by name.

    `plugins` holds the tables of [plugins.NAME], which each plug-in reads for itself; relative paths in them count
    from `folder`.
    """

    model: ModelSection
    remote: RemoteSection
    models: ModelsSection
    sampling: SamplingSection
    dialogue: DialogueSection
    access: AccessSection
    limits: LimitsSection
    moderation: ModerationSection
    store: StoreSection
    log: LogSection
    tracing: TracingSection
    adapters: Mapping[str, BaseModel]
    named_models: Mapping[str, NamedLocalModel | NamedRemoteModel] = field(default_factory=dict[str, Any])
    plugins: Mapping[str, Any] = field(default_factory=dict[str, Any])
    folder: Path = Path()


def plugin_tables(path: Path | None, environment: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """What [plugins.NAME] and GLMBOT_PLUGINS__NAME__KEY say, by name. Raises ConfigError."""
    text, table = _read(path)
    return _plugin_tables(_Where(path, text), table, environment)


def _plugin_tables(where: _Where, table: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    found = table.get(_PLUGINS, {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise ConfigError(f"{where.at(_PLUGINS, _PLUGINS)}: plugins must be sections: [plugins.NAME]")
    tables: dict[str, Any] = {name: dict(content) for name, content in found.items()}
    if complaint := _unfit(tables):
        raise ConfigError(f"{where.at(_PLUGINS)}: [plugins]: {complaint}")
    for variable, value in environment.items():
        if not variable.upper().startswith(_PLUGIN_VARIABLE):
            continue
        name, _, key = variable[len(_PLUGIN_VARIABLE) :].lower().partition("__")
        if not name or not key:
            raise ConfigError(
                f"environment variable {variable[:_LONGEST_SHOWN]}: it is GLMBOT_PLUGINS__NAME__KEY"
            )
        tables.setdefault(name, {})[key] = _of_variable(value)
    if len(tables) > _MOST_PLUGINS:
        raise ConfigError(f"{where.at(_PLUGINS)}: [plugins] has more than {_MOST_PLUGINS} sections")
    return tables


def _of_variable(value: str) -> Any:
    """Lists and tables are JSON in the environment."""
    if value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


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
    text, table = _read(path)
    models: dict[str, type[BaseModel]] = {**CORE_SECTIONS, **adapter_settings}
    where = _Where(path, text)
    plugins = _plugin_tables(where, table, environment)
    table = {name: content for name, content in table.items() if name != _PLUGINS}
    table, named = _apart(table)
    environment, named = _named_in_environment(environment, named)
    _refuse_unknown(where, table, models)
    _refuse_unfit(where, table)
    _refuse_unknown_environment(environment, models)
    merged = _merge(table, cast(dict[str, Any], dict(overrides or {})))
    fields: dict[str, Any] = {
        name: ((model, Field(default_factory=model)) if name in CORE_SECTIONS else (model | None, None))
        for name, model in models.items()
    }

    class _Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
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
        raise ConfigError(_explain(_problems(error), where, models, environment)) from None
    except (SettingsError, RecursionError):
        raise ConfigError(_not_json(environment, models)) from None
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


def secrets_in(configuration: Configuration) -> list[str]:
    """Every secret value of all sections, for the log filter."""
    sections = (
        configuration.store,
        configuration.remote,
        *configuration.named_models.values(),
        *configuration.adapters.values(),
    )
    return [secret for section in sections for secret in secrets_of(section)]


def secrets_of(section: BaseModel) -> list[str]:
    """Every secret value in a section, for the log filter, those in files of their own too."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    secrets = [value.get_secret_value() for value in values.values() if isinstance(value, SecretStr)]
    for name, file in values.items():
        if isinstance(file, Path) and name.removesuffix("_file") in values:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                secrets += file.read_text("utf-8").split()
    return secrets


@dataclass(frozen=True, slots=True)
class _Where:
    """Finds the line of a key, which TOML parsers do not tell."""

    path: Path | None
    text: str

    def at(self, section: str, key: str = "") -> str:
        name = str(self.path or "configuration")
        line = self._line(section, key)
        return f"{name}, line {line}" if line else name

    def _line(self, section: str, key: str) -> int | None:
        current = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
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


def _read(path: Path | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        return "", {}
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
        return text, tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: too many levels") from None
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {str(error)[:_LONGEST_SHOWN]}") from error


def _refuse_unknown(where: _Where, table: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> None:
    for section, content in table.items():
        if section not in models:
            raise ConfigError(
                f"{where.at(section)}: [{section[:_LONGEST_SHOWN]}] is no section{_nearest(section, models)}"
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{where.at(section, section)}: {section} must be a section: [{section}]")
        for key in cast(dict[str, Any], content):
            fields = models[section].model_fields
            if key not in fields:
                raise ConfigError(
                    f"{where.at(section, key)}: [{section}] has no key {key[:_LONGEST_SHOWN]!r}"
                    f"{_nearest(key, fields)}"
                )


def _refuse_unfit(where: _Where, table: Mapping[str, Mapping[str, Any]]) -> None:
    for section, content in table.items():
        for key, value in content.items():
            if complaint := _unfit(value):
                raise ConfigError(f"{where.at(section, key)}: [{section}] {key}: {complaint}")


def _unfit(value: Any, depth: int = 0) -> str:
    """What is wrong with a value whatever it is for: too long, too deep, no text. "" for most."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            return f"has {len(value)} characters, and at most {_LONGEST_TEXT} are taken"
        return "holds control characters" if _CONTROL.search(value) else ""
    if isinstance(value, dict | list):
        entries = list(
            cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
        )
        if len(entries) > _MOST_ENTRIES:
            return f"has {len(entries)} entries, and at most {_MOST_ENTRIES} are taken"
        if depth >= _DEEPEST:
            return "is too deep"
        return next(filter(None, (_unfit(entry, depth + 1) for entry in entries)), "")
    if isinstance(value, int | float) and not abs(value) < 2**63:
        return "is no number that anything here could be"
    return ""


def _refuse_unknown_platforms(where: _Where, access: AccessSection, known: set[str]) -> None:
    named = {
        "open_platforms": access.open_platforms,
        **{key: [UserKey.by_hand(each).platform for each in getattr(access, key)] for key in _LISTS_OF_IDS},
    }
    for key, platforms in named.items():
        for platform in platforms:
            if platform not in known:
                raise ConfigError(
                    f"{where.at('access', key)}: [access] {key}: there is no platform"
                    f" {platform[:_LONGEST_SHOWN]!r}{_nearest(platform, known)}"
                )


def _refuse_unknown_environment(
    environment: Mapping[str, str], models: Mapping[str, type[BaseModel]]
) -> None:
    known = [_variable(section, key) for section, model in models.items() for key in model.model_fields]
    known += _READ_ELSEWHERE
    sections = {_variable(section, "") for section in models}
    for name in environment:
        if not name.upper().startswith(_PREFIX):
            continue
        if complaint := _unfit(environment[name]):
            raise ConfigError(f"environment variable {name[:_LONGEST_SHOWN]}: {complaint}")
        if name.upper() in known or name.upper() in sections or name.upper().startswith(_PLUGIN_VARIABLE):
            continue
        raise ConfigError(f"environment variable {name[:_LONGEST_SHOWN]} is not known{_nearest(name, known)}")


def _nearest(name: str, known: Any) -> str:
    candidates = [str(each) for each in known]
    close = difflib.get_close_matches(name[:_LONGEST_SHOWN], candidates, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(sorted(candidates))}"


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[name] = _merge(cast(dict[str, Any], old), cast(dict[str, Any], value)) if both else value
    return merged


def _problems(error: ValidationError, section: str = "") -> list[Mapping[str, Any]]:
    found: list[Any] = list(error.errors(include_url=False, include_input=False))
    return [{**each, "loc": (section, *each["loc"])} for each in found] if section else found


def _apart(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The sections as they are, and each [models.NAME] by its name."""
    content: Any = table.get("models")
    if not isinstance(content, dict):
        return dict(table), {}
    content = cast(dict[str, Any], content)
    named = {name: value for name, value in content.items() if isinstance(value, dict)}
    return {**table, "models": {key: value for key, value in content.items() if key not in named}}, named


def _named_in_environment(
    environment: Mapping[str, str], named: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What the environment says of [models.NAME], as GLMBOT_MODELS__NAME__KEY: a list is JSON there."""
    rest: dict[str, str] = {}
    merged = {name: dict(content) for name, content in named.items()}
    prefix = _variable("models", "") + "__"
    for variable, value in environment.items():
        name, _, key = variable.upper().removeprefix(prefix).partition("__")
        if not variable.upper().startswith(prefix) or not key:
            rest[variable] = value
            continue
        if complaint := _unfit(value):
            raise ConfigError(f"environment variable {variable[:_LONGEST_SHOWN]}: {complaint}")
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
            f"environment variable {variable[:_LONGEST_SHOWN]}: a list is written as JSON there"
        ) from None


def _named_models(
    where: _Where, named: Mapping[str, dict[str, Any]], default: str, base: Path
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
        if not _MODEL_NAME.fullmatch(name):
            raise ConfigError(
                f"{at}: [models.{name[:_LONGEST_SHOWN]}]: a model's name is 1 to 64 letters, digits, dots,"
                " underscores and hyphens"
            )
        if name.lower() in {each.lower() for each in (*found, default)}:
            raise ConfigError(f"{at}: [{section}]: another model has this name")
        kind = NamedRemoteModel if "servers" in content else NamedLocalModel
        if "path" not in content and kind is NamedLocalModel:
            raise ConfigError(f"{at}: [{section}] needs path, a model's folder, or servers")
        _refuse_unknown(where, {section: content}, {section: kind})
        _refuse_unfit(where, {section: content})
        try:
            model = kind.model_validate(content)
        except ValidationError as error:
            raise ConfigError(_explain(_problems(error, section), where, {section: kind}, {})) from None
        found[name] = rooted(model, base)
    return found


def _explain(
    problems: Sequence[Mapping[str, Any]],
    where: _Where,
    models: Mapping[str, type[BaseModel]],
    environment: Mapping[str, str],
) -> str:
    from_environment = {name.upper() for name in environment}
    lines: list[str] = []
    for problem in problems[:_PROBLEMS_TOLD]:
        location = [str(part) for part in problem["loc"]]
        section, key = location[0], location[1] if len(location) > 1 else ""
        field = models[section].model_fields.get(key) if section in models else None
        hint = f" ({_first_sentence(section, field)})" if field is not None and field.description else ""
        variable = _variable(section, key)
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


_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
# By the ends of their names. What is not here is a plain number, such as a port or a temperature.
_UNITS = {
    "_s": "seconds",
    "_minutes": "minutes",
    "_gb": "GB",
    "_days": "days",
    "_tokens": "tokens",
    "_length": "tokens",
    "_per_hour": "questions an hour",
    "pending_per_user": "questions",
    "pending_per_source": "questions",
    "turn_limit": "turns",
    "queue_limit": "requests",
    "max_batch": "answers",
    "parallel": "answers",
    "tries": "attempts",
    "journal_limit": "steps",
    "threads": "threads",
    "shards": "connections",
    "max_connections": "connections",
}


def unit_of(key: str) -> str:
    """What a number of this name counts; "" for a plain one."""
    return next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")


def meaning_of(section: str, field: FieldInfo) -> str:
    """The English words for a key; settings that several platforms share do not know their section's name."""
    return (field.description or "").replace("GLMBOT_SECTION__", _variable(section, "") + "__")


def _not_json(environment: Mapping[str, str], models: Mapping[str, type[BaseModel]]) -> str:
    """Lists and whole sections are JSON in the environment."""
    names = {_variable(section, "") for section in models} | {
        _variable(section, key)
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


def _variable(section: str, key: str) -> str:
    return f"{_PREFIX}{section.replace('.', '__', 1)}{f'__{key}' if key else ''}".upper()


def _first_sentence(section: str, field: FieldInfo) -> str:
    return meaning_of(section, field).split(". ")[0].rstrip(".")


def rooted(section: _Model, base: Path) -> _Model:
    """Relative paths count from the folder of the file."""
    moved = {
        name: base / value
        for name in type(section).model_fields
        if isinstance(value := getattr(section, name), Path) and not value.is_absolute()
    }
    return section.model_copy(update=moved)
