"""The commented example of everything, made from the settings models themselves."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from glmbot.config.bots import BotSection
from glmbot.config.configuration import CORE_SECTIONS
from glmbot.config.names import meaning_of
from glmbot.i18n import settings_words

__all__ = ["about_key", "about_section", "default_of", "example_toml", "sections"]

_HEAD = {
    "en": """\
# glmbot's configuration, with every key at its default. Lines that begin with "# " explain; keys that are
# commented out are off or have no default. `glmbot check FILE` reads a file and says what is wrong with it.
# Each key can be set in the environment too, which wins: GLMBOT_TELEGRAM__TOKEN is [telegram] token.
# A platform runs when its section is here: take the "#" from [telegram] or [discord]. A further bot of one has a
# section of its own, such as [telegram.support].
""",
    "zh": """\
# glmbot 的配置，所有配置项都是默认值。以“# ”开头的行是说明；注释掉的配置项没有启用，或者没有默认值。
# `glmbot check FILE` 读取配置文件，并指出哪里写错了。
# 每一项也可以写在环境变量里，环境变量优先：GLMBOT_TELEGRAM__TOKEN 就是 [telegram] token。
# 写了某个平台的小节，它就会运行：去掉 [telegram] 或 [discord] 前面的“#”。
# 同一平台的另一个机器人另写一节，例如 [telegram.support]。
""",
}
# The platform that the example leaves switched on: it needs no account elsewhere.
_ON = "web"
# Stands for all sections of further bots.
_FURTHER_BOT = "telegram.support"


def example_toml(adapters: Mapping[str, type[BaseModel]], language: str = "en") -> str:
    """TOML text that is valid as it is, whatever adapters are installed."""
    parts = [_HEAD[language]]
    for name, model in sections(adapters).items():
        off = name not in CORE_SECTIONS and name != _ON
        parts.append(_section(name, model, "#" if off else "", language))
    return "\n".join(parts)


def sections(adapters: Mapping[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Of the core, and of all platforms, with one that stands for their further bots."""
    return {**CORE_SECTIONS, **dict(sorted({**adapters, _FURTHER_BOT: BotSection}.items()))}


def about_section(name: str, model: type[BaseModel], language: str) -> str:
    """What a section is for; in English where nobody has translated it, as for an adapter of others."""
    return _words(name, model, language).get("_") or inspect.getdoc(model) or ""


def about_key(section: str, model: type[BaseModel], key: str, language: str) -> str:
    return _words(section, model, language).get(key) or meaning_of(section, model.model_fields[key])


def _words(section: str, model: type[BaseModel], language: str) -> Mapping[str, str]:
    """By key, and of the section as "_". An adapter's settings may bring their own, by language, as `words`."""
    own: Mapping[str, Mapping[str, str]] = getattr(model, "words", {})
    return {**settings_words(language).get(section, {}), **own.get(language, {})}


def default_of(field: FieldInfo) -> str:
    """As TOML; "" for what TOML has no word for: no value."""
    value: Any = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = value.as_posix()
    return json.dumps(value, ensure_ascii=False)


def _section(name: str, model: type[BaseModel], off: str, language: str) -> str:
    lines = [f"# {line}" for line in about_section(name, model, language).splitlines()]
    lines.append(f"{off}[{name}]")
    for key, field in model.model_fields.items():
        lines.append(f"# {about_key(name, model, key, language)}")
        value = default_of(field)
        lines.append(f"{off}{key} = {value}" if value else f"#{key} =")
    return "\n".join(lines) + "\n"
