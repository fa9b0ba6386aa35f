"""Configuration: every mistake is named with file, line, key and the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import REPOSITORY
from glmbot.app import adapter_settings, remote_settings
from glmbot.config import Configuration, load_configuration, secrets_of
from glmbot.config_example import example_toml
from glmbot.errors import ConfigError
from glmbot.setup import ask_configuration


def load(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> Configuration:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load_configuration(path, adapter_settings(), environment or {})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[telegram]\ntokne = 'x'\n",
            r"config\.toml, line 2: \[telegram\] has no key 'tokne'; did you mean 'token'",
        ),
        ("[web]\nport = 1\n[telegarm]\n", r"line 3: \[telegarm\] is no section; did you mean 'telegram'"),
        ("[web]\n\nport = 'eighty'\n", r"line 3: \[web\] port: .*integer"),
        ("[web]\nport = 99999\n", r"line 2: \[web\] port: .*65535"),
        ("[model]\nprecision = 'int7'\n", r"line 2: \[model\] precision: .*'int8'"),
        ("[access]\nadmins = ['@ann']\n", r"line 2: \[access\] admins: .*telegram:123456789"),
        ("[model]\ncontext_length = 3\n", r"line 2: \[model\] context_length"),
        ("model = 5\n", r"line 1: model must be a section"),
        ("[web\n", r"config\.toml: not valid TOML"),
        ("[web]\nport = " + "1" * 5000, r"config\.toml: not valid TOML"),
        ("[web]\nport = " + "[" * 50_000, r"config\.toml: not valid TOML"),
        (
            "[access]\nadmins = [" + "5," * 50_000 + "]",
            r"line 2: \[access\] admins: .*(\n.*)+\nand 49980 more",
        ),
        ("[store]\nkind = 'mysql'\n", r"line 2: \[store\] kind"),
        ("[remote]\nservers = ['10.0.0.5:8000']\n", r"line 2: \[remote\] servers: .*such as http://"),
        ("[remote]\nservers = ['http://me:pw@h/v1']\n", r"line 2: \[remote\] servers: .*api_key_file"),
        ("web.prot = 1\n", r"line 1: \[web\] has no key 'prot'; did you mean 'port'"),
    ],
)
def test_mistakes_are_named_with_file_line_key_and_nearest_name(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="glmbot init"):
        load_configuration(tmp_path / "none.toml", {}, {})
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_configuration(tmp_path / "bad.toml", {}, {})


def test_the_environment_wins_and_its_mistakes_are_named(tmp_path: Path) -> None:
    text = "[web]\nport = 1\n"
    configuration = load(
        tmp_path, text, {"GLMBOT_WEB__PORT": "2", "GLMBOT_TELEGRAM__TOKEN": "5:abc", "PATH": "/"}
    )
    assert configuration.adapters["web"].port == 2  # pyright: ignore
    assert secrets_of(configuration.adapters["telegram"]) == ["5:abc"]
    assert "5:abc" not in repr(configuration)
    with pytest.raises(
        ConfigError, match="GLMBOT_TELEGRAM__TOKNE is not known; did you mean 'GLMBOT_TELEGRAM__TOKEN'"
    ):
        load(tmp_path, text, {"GLMBOT_TELEGRAM__TOKNE": "x"})
    with pytest.raises(ConfigError, match=r"^environment variable GLMBOT_WEB__PORT: \[web\] port: .*integer"):
        load(tmp_path, text, {"GLMBOT_WEB__PORT": "eighty"})
    with pytest.raises(ConfigError, match=r"^environment: GLMBOT_ACCESS__ADMINS: a list .* as JSON"):
        load(tmp_path, text, {"GLMBOT_ACCESS__ADMINS": "telegram:5", "GLMBOT_WEB__TOKEN": "plain"})


def test_platforms_run_only_when_their_section_is_there(tmp_path: Path) -> None:
    assert load(tmp_path, "").adapters == {}
    assert list(load(tmp_path, "[web]\n").adapters) == ["web"]


def test_relative_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    configuration = load(tmp_path, "[model]\npath = 'm'\n[telegram]\ntoken_file = 't'\n")
    assert configuration.model.path == tmp_path / "m"
    assert configuration.adapters["telegram"].token_file == tmp_path / "t"  # pyright: ignore


def test_a_model_server_needs_a_tokenizer_or_takes_messages(tmp_path: Path) -> None:
    there = "[remote]\nservers = ['http://h:1/v1']\n"
    with pytest.raises(ConfigError, match=r'tokenizer is missing: .* interface = "chat"'):
        remote_settings(load(tmp_path, there))
    (tmp_path / "key").write_text("sk-of-a-service\n")
    configuration = load(tmp_path, there + "interface = 'chat'\napi_key_file = 'key'\n")
    assert remote_settings(configuration).api_key == "sk-of-a-service"
    assert secrets_of(configuration.remote) == ["sk-of-a-service"], "so that no log shows it"
    with pytest.raises(ConfigError, match="api_key_file"):
        remote_settings(load(tmp_path, there + "interface = 'chat'\napi_key_file = 'gone'\n"))


def test_the_example_is_what_the_models_say_and_is_valid(tmp_path: Path) -> None:
    text = (REPOSITORY / "config.example.toml").read_text("utf-8")
    assert text == example_toml(adapter_settings()), "run: glmbot init --example > config.example.toml"
    assert list(load(tmp_path, text).adapters) == ["web"]
    everything = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") and not line.endswith("=") else line
        for line in text.splitlines()
    )
    assert set(load(tmp_path, everything).adapters) == set(adapter_settings())


def test_init_writes_what_check_accepts(tmp_path: Path) -> None:
    answers = iter(["models/glm", 8081, "", "not a number", "123456", "redis://127.0.0.1/1"])
    yes = iter([True, True, False, True])
    written = ask_configuration(lambda *_, **__: next(answers), lambda *_, **__: next(yes))
    configuration = load(tmp_path, written.toml)
    assert written.secrets == {}
    assert any("telegram.token" in step for step in written.next_steps)
    assert configuration.store.kind == "redis"
    assert configuration.access.admins == ["telegram:123456"]
    assert set(configuration.adapters) == {"web", "telegram"}


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_a_clear_error(tmp_path: Path, text: str) -> None:
    complaint = ""
    try:
        load(tmp_path, text.encode("utf-8", "replace").decode())
    except ConfigError as error:
        complaint = str(error)
    assert not complaint or "config.toml" in complaint
