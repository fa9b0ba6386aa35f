"""Whatever a configuration file holds, it is taken, or refused in words that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.inputs import changed, fuzz, nasty_text
from glmbot.app import adapter_settings
from glmbot.config.configuration import CORE_SECTIONS
from glmbot.config.load import load_configuration
from glmbot.config_example import example_toml
from glmbot.errors import ConfigError

MODELS = {**CORE_SECTIONS, **adapter_settings()}
EXAMPLE = example_toml(adapter_settings())
TABLES: list[dict[str, Any]] = [
    {"web": {"port": 8080}, "model": {"path": "m", "precision": "int4"}, "access": {"admins": ["telegram:5"], "users": []}},
    {"telegram": {"token": "1:a", "edit_interval_s": 1.5}, "store": {"kind": "redis", "url": "redis://h/1"}, "log": {"level": "INFO"}},
    {"remote": {"servers": ["http://h:1/v1"], "interface": "chat"}, "sampling": {"temperature": 0.5, "top_k": 3}},
    {"moderation": {"command": ["a", "b"]}, "limits": {"user_per_hour": 3}, "dialogue": {"system_prompt": "x", "tries": 2}},
]  # fmt: skip


def to_toml(table: Any) -> str:
    """As TOML where it can be said in it; else whatever JSON makes of it, which is no TOML mostly."""
    if not isinstance(table, dict):
        return json.dumps(table)
    lines: list[str] = []
    for section, content in table.items():
        if not isinstance(content, dict):
            lines.insert(0, f"{json.dumps(section)} = {json.dumps(content)}")
            continue
        lines.append(f"[{section if section.isidentifier() else json.dumps(section)}]")
        lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in content.items()]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@st.composite
def lines_changed(draw: st.DrawFn) -> str:
    """The example with some lines switched on, cut, repeated or given other values."""
    lines = EXAMPLE.splitlines()
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["on", "cut", "twice", "value", "text"])):
            case "on":
                lines[place] = lines[place].lstrip("# ")
            case "cut":
                lines[place] = lines[place][: draw(st.integers(0, 20))]
            case "twice":
                lines.insert(place, lines[place])
            case "value":
                key = lines[place].lstrip("#").partition("=")[0]
                lines[place] = (
                    f"{key}= {_value(draw(st.none() | nasty_text | st.integers() | st.floats() | st.booleans()))}"
                )
            case _:
                lines[place] = draw(nasty_text)
    return "\n".join(lines)


texts = lines_changed() | changed(TABLES).map(to_toml) | nasty_text
environments = st.dictionaries(
    st.sampled_from([f"GLMBOT_{section}__{key}".upper() for section, model in MODELS.items() for key in model.model_fields])
    | st.text(max_size=8).map(lambda name: f"GLMBOT_{name}"),
    nasty_text | st.sampled_from(["1", "true", "[]", "{}", '["a"]', "{", "null"]),
    max_size=2,
)  # fmt: skip


@pytest.mark.timeout(3600)
@fuzz
@given(texts.map(str.encode) | st.binary(max_size=100), environments)
def test_any_file_is_taken_or_refused_in_words(
    tmp_path: Path, content: bytes, environment: dict[str, str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    words = "config.toml"
    try:
        load_configuration(path, adapter_settings(), environment)
    except ConfigError as error:
        words = str(error)
    assert "config.toml" in words or "GLMBOT_" in words
    assert "Traceback" not in words
    assert len(words) < 20_000
