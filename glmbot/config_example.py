"""The commented example of everything, made from the settings models themselves."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from glmbot.config import CORE_SECTIONS

__all__ = ["example_toml"]

_HEAD = """\
# glmbot's configuration, with every key at its default. Lines that begin with "# " explain; keys that are
# commented out are off or have no default. `glmbot check FILE` reads a file and says what is wrong with it.
# Each key can be set in the environment too, which wins: GLMBOT_TELEGRAM__TOKEN is [telegram] token.
# A platform runs when its section is here: take the "#" from [telegram] or [discord].
"""
# Sections that the example leaves switched off.
_OFF = ("telegram", "discord", "console")


def example_toml(adapters: Mapping[str, type[BaseModel]]) -> str:
    """TOML text that is valid as it is, whatever adapters are installed."""
    parts = [_HEAD]
    for name, model in {**CORE_SECTIONS, **dict(sorted(adapters.items()))}.items():
        parts.append(_section(name, model, "#" if name in _OFF else ""))
    return "\n".join(parts)


def _section(name: str, model: type[BaseModel], off: str) -> str:
    lines = [f"# {line}" for line in (inspect.getdoc(model) or "").splitlines()]
    lines.append(f"{off}[{name}]")
    for key, field in model.model_fields.items():
        lines.append(f"# {field.description}")
        default = field.get_default(call_default_factory=True)
        value = _toml(default)
        lines.append(f"{off}{key} = {value}" if value else f"#{key} =")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """ "" for what TOML has no word for: no value, and secrets."""
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = value.as_posix()
    return json.dumps(value, ensure_ascii=False)
