"""Configuration: every mistake is named with file, line, key and the nearest right name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import REPOSITORY
from glmbot.app import adapter_settings
from glmbot.config.configuration import CORE_SECTIONS, Configuration, secrets_in
from glmbot.config.load import load_configuration
from glmbot.config.models import NamedLocalModel, NamedRemoteModel
from glmbot.config.section import secrets_of
from glmbot.config_example import example_toml, sections
from glmbot.config_reference import PAGES, reference_markdown
from glmbot.engines import remote_settings
from glmbot.errors import ConfigError
from glmbot.i18n import settings_words


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
            "[access]\nadmins = [" + "5," * 5_000 + "]",
            r"line 2: \[access\] admins: .*(\n.*)+\nand 4980 more",
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


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    """Also where a name that is not known keeps a value from being read."""
    text = (
        "[telegram]\ntokne = 'x'\n[web]\nport = 'eighty'\nhsot = 'h'\n[telegarm]\na = 1\nb = 2\n"
        "[model]\nprecision = 'int7'\npath = \"a\\u0000\"\n[models.one]\npath = 'x'\npat = 'y'\ntreads = 2\n"
        "[models.two]\npath = 'x'\nthreads = -1\n[discord.games]\ntokne = 'x'\n[discord.Bad]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, {"GLMBOT_WEB__PROT": "1", "GLMBOT_STORE__KIND": "mysql"})
    lines = str(caught.value).splitlines()
    for wrong in (
        "line 2: [telegram] has no key 'tokne'; did you mean 'token'?", "line 4: [web] port: ",
        "line 5: [web] has no key 'hsot'; did you mean 'host'?", "line 6: [telegarm] is no section; did you mean",
        "line 10: [model] precision: ", "line 11: [model] path: holds control characters",
        "line 14: [models.one] has no key 'pat'", "line 15: [models.one] has no key 'treads'",
        "line 18: [models.two] threads: must be at least 0", "line 20: [discord.games] has no key 'tokne'",
        "line 21: [discord.Bad]: a bot's name is", "variable GLMBOT_WEB__PROT is not known",
        "variable GLMBOT_STORE__KIND: [store] kind: ",
    ):  # fmt: skip
        assert sum(wrong in line for line in lines) == 1, wrong
    assert len(lines) == 13
    many = "".join(f"wrong{number} = 1\n" for number in range(10_000))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[web]\n{many}")
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, "and 9980 more")


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
    assert text == example_toml(adapter_settings()), (
        "run: glmbot init --example --language en > config.example.toml"
    )
    assert list(load(tmp_path, text).adapters) == ["web"]
    everything = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") and not line.endswith("=") else line
        for line in text.splitlines()
    )
    assert set(load(tmp_path, everything).adapters) == {*adapter_settings(), "telegram.support"}


def test_the_example_in_chinese_is_the_same_configuration(tmp_path: Path) -> None:
    def assigned(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith("# ")]

    text = example_toml(adapter_settings(), "zh")
    assert assigned(text) == assigned(example_toml(adapter_settings()))
    assert load(tmp_path, text) == load(tmp_path, example_toml(adapter_settings()))


def test_every_key_is_explained_in_chinese_and_none_that_is_gone() -> None:
    keys = {name: {"_", *model.model_fields} for name, model in sections(adapter_settings()).items()}
    words = {name: {**explained} for name, explained in settings_words("zh").items()}
    for name, model in adapter_settings().items():
        words.setdefault(name, {}).update(getattr(model, "words", {}).get("zh", {}))
    assert {name: set(explained) for name, explained in words.items()} == keys
    assert all(re.search("[\u4e00-\u9fff]", text) for section in words.values() for text in section.values())


@pytest.mark.parametrize("language", PAGES)
def test_the_page_of_all_keys_is_what_the_code_says(language: str) -> None:
    page = (REPOSITORY / "docs" / PAGES[language]).read_text("utf-8")
    assert page == reference_markdown(adapter_settings(), language), "run: python -m glmbot.config_reference"
    for name, model in sections(adapter_settings()).items():
        table = page.partition(f"## [{name}]")[2].partition("\n## ")[0]
        for key, field in model.model_fields.items():
            row = next(line for line in table.splitlines() if line.startswith(f"| `{key}` |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert len(cells) == 6
            assert cells[5] not in ("", "–")
            for bound in field.metadata:
                for value in filter(None, (getattr(bound, sign, None) for sign in ("ge", "gt", "le", "lt"))):
                    assert f"{value:,}" in cells[4]


def test_variables_that_the_documentation_names_are_known(tmp_path: Path) -> None:
    pages = "".join(page.read_text("utf-8") for page in (REPOSITORY / "docs").glob("*.md"))
    named = set(re.findall(r"GLMBOT_[A-Z]+(?:__[A-Z_]+)?", pages))
    assert {"GLMBOT_NATIVE", "GLMBOT_WEB__TOKEN"} <= named
    for name in named:
        value = "0" if "__" not in name else '["telegram:1"]' if name.endswith("ADMINS") else "some-text"
        load(tmp_path, '[models.hosted]\nservers = ["http://127.0.0.1:1/v1"]\n', {name: value})
    with pytest.raises(ConfigError, match="GLMBOT_NATVE is not known; did you mean 'GLMBOT_NATIVE'"):
        load(tmp_path, "", {"GLMBOT_NATVE": "0"})


def test_models_by_name_are_local_or_on_servers_and_have_keys_in_the_environment(tmp_path: Path) -> None:
    text = (
        "[models]\nmemory_gb = 8\n[models.Small]\npath = 'small'\nload = 'start'\n"
        "[models.far]\nservers = ['http://10.0.0.5/v1']\ninterface = 'chat'\ncontext_length = 4096\n"
    )
    environment = {"GLMBOT_MODELS__FAR__API_KEY": "sk-far-secret", "GLMBOT_MODELS__SMALL__THREADS": "2"}
    read = load(tmp_path, text, environment)
    small, far = read.named_models["Small"], read.named_models["far"]
    assert isinstance(small, NamedLocalModel)
    assert (small.path, small.load, small.threads) == (tmp_path / "small", "start", 2)
    assert isinstance(far, NamedRemoteModel)
    assert (far.servers, far.context_length, read.models.memory_gb) == (["http://10.0.0.5/v1"], 4096, 8)
    assert "sk-far-secret" in secrets_in(read)
    assert "sk-far-secret" not in repr(read)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.a]\nthreads = 1\n", r"line 1: \[models\.a\] needs path, a model's folder, or servers"),
        (
            "[models.a]\npath = 'x'\npat = 'y'\n",
            r"line 3: \[models\.a\] has no key 'pat'; did you mean 'path'",
        ),
        (
            "[models.a]\npath = 'x'\nthreads = -1\n",
            r"line 3: \[models\.a\] threads: must be at least 0 threads",
        ),
        ("[models.'a b']\npath = 'x'\n", "a model's name is 1 to 64 letters"),
        ("[models.a]\npath = 'x'\n[models.A]\npath = 'x'\n", "another model has this name"),
        ("[model]\nname = 'a'\n[models.a]\npath = 'x'\n", "another model has this name"),
        ("[models.a]\nservers = []\n", r"\[models\.a\] servers"),
        ("[models]\nmemory_gb = 'much'\n", r"line 2: \[models\] memory_gb"),
        ("models = 5\n", "models must be a section"),
    ],
)
def test_what_is_wrong_with_a_model_by_name_is_told_with_its_place(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


@pytest.mark.parametrize("section", ["models", "plugins"])
def test_sections_of_chosen_names_take_the_environment_alike(tmp_path: Path, section: str) -> None:
    text = f"[{section}.Far]\nservers = ['http://a']\nthinking = 'auto'\n"
    variable = f"GLMBOT_{section.upper()}__FAR__SERVERS"
    environment = {variable: '["http://b", "http://c"]', f"glmbot_{section}__far__thinking": "off"}
    read = load(tmp_path, text, environment)
    tables: dict[str, dict[str, Any]] = {
        "models": {name: model.model_dump() for name, model in read.named_models.items()},
        "plugins": dict(read.plugins),
    }
    assert list(tables[section]) == ["Far"]
    wanted = {"servers": ["http://b", "http://c"], "thinking": "off"}
    assert {key: tables[section]["Far"][key] for key in wanted} == wanted
    with pytest.raises(ConfigError, match=f"^environment variable {variable}: holds control characters"):
        load(tmp_path, text, {variable: "\x01"})
    with pytest.raises(ConfigError, match=f"GLMBOT_{section.upper()}__X is not known"):
        load(tmp_path, text, {f"GLMBOT_{section.upper()}__X": "1"})
    with pytest.raises(ConfigError, match=r"config\.toml.*: there are \d+ sections .* at most \d+ are taken"):
        load(tmp_path, "".join(f"[{section}.m{number}]\npath = 'x'\n" for number in range(201)))
    with pytest.raises(ConfigError, match=r"config\.toml.*must be (a section|sections): \["):
        load(tmp_path, f"{section} = 0\n")


def test_what_the_environment_says_wrong_of_a_model_by_name_is_told_with_its_variable(tmp_path: Path) -> None:
    text = "[models.far]\nservers = ['http://a']\n"
    for key, value in (("SERVERS", "http://b"), ("SERVERS", '["http://b"'), ("PARALLEL", "many")):
        variable = f"GLMBOT_MODELS__FAR__{key}"
        with pytest.raises(
            ConfigError, match=rf"^environment variable {variable}: \[models\.far\] {key.lower()}"
        ):
            load(tmp_path, text, {variable: value})


def test_a_hint_names_the_variable_of_its_own_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GLMBOT_DISCORD__TOKEN") as caught:
        load(tmp_path, "[discord]\ntoken = 5\n")
    assert "SECTION__" not in str(caught.value)
    assert "SECTION__" not in example_toml(adapter_settings())


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_a_clear_error(tmp_path: Path, text: str) -> None:
    complaint = ""
    try:
        load(tmp_path, text.encode("utf-8", "replace").decode())
    except ConfigError as error:
        complaint = str(error)
    assert not complaint or "config.toml" in complaint


NUMBERS = [
    (section, key, field)
    for section, model in {**CORE_SECTIONS, **adapter_settings()}.items()
    for key, field in model.model_fields.items()
    if any(kind in str(field.annotation) for kind in ("int", "float")) and "SecretStr" not in str(field.annotation)
    and "list" not in str(field.annotation)
]  # fmt: skip


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in NUMBERS])
@pytest.mark.parametrize(
    "absurd", ["nan", "inf", "-inf", "-1", "1" + "0" * 30, "1e300", "9" * 5000, "1000000000000"]
)
def test_no_number_is_absurd(tmp_path: Path, section: str, key: str, absurd: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"[{section}]\n{key} = {absurd}\n")
    assert len(str(raised.value)) < 500
    if absurd != "9" * 5000:
        assert f"line 2: [{section}] {key}: " in str(raised.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[dialogue]\ndeadline_s = 999999\n", r"line 2: \[dialogue\] deadline_s: must be at most 86400 seconds"),
        ("[store]\nclaim_s = 0.5\n", r"claim_s: must be at least 1 seconds"),
        ("[store]\nblob_mb = 0\n", r"blob_mb: must be more than 0 MB"),
        ("[model]\ntensor_parallel = 0\n", r"tensor_parallel: must be at least 1 processes"),
        ("[store]\nkeep_days = 99999\n", r"keep_days: must be at most 36500 days"),
        ("[model]\ncontext_length = 3\n", r"context_length: must be at least 64 tokens"),
        ("[model]\npath = 'a\tb\\u0000'\n[store]\npath = \"a\\u0000b\"\n", r"line 4: \[store\] path: holds control"),
        ("[web]\nhost = \"127.0.0.1\\u001b[2J\"\n", r"line 2: \[web\] host: holds control"),
        ("[dialogue]\nsystem_prompt = '" + "x" * 70_000 + "'\n", r"system_prompt: has 70000 characters"),
        ("[access]\nusers = [" + "'telegram:1'," * 10_001 + "]\n", r"users: has 10001 entries"),
        ("[access]\nusers = " + "[" * 900 + "]" * 900 + "\n", r"config\.toml"),
        ("[access]\nusers = " + "[" * 90_000 + "\n", r"not valid TOML"),
        ("[access]\nusers = " + "[" * 20 + "]" * 20 + "\n", r"users: is too deep"),
        ("[access]\nadmins = ['foo:12']\n", r"line 2: \[access\] admins: there is no platform 'foo'"),
        ("[access]\nopen_platforms = ['dicsord']\n", r"no platform 'dicsord'; did you mean 'discord'"),
        ("[access]\nadmins = ['telegram:99999999999999999999']\n", r"at most 64 bits"),
        ("[" + "x" * 5000 + "]\n", r"is no section"),
        ("# " + "x" * 2_000_000 + "\n", r"more than 1 MiB"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_refused_in_few_words(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        load(tmp_path, text)
    assert len(str(raised.value)) < 1500
    assert str(raised.value).isprintable() or "\n" in str(raised.value)


@pytest.mark.parametrize(
    "value", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, "x" * 10**6, "9" * 5000, "\x1b[2J", "nan"]
)
@pytest.mark.parametrize(
    "name", ["GLMBOT_ACCESS__ADMINS", "GLMBOT_WEB", "GLMBOT_DIALOGUE__DEADLINE_S", "GLMBOT_MODEL"]
)
def test_no_variable_is_absurd(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="GLMBOT") as raised:
        load(tmp_path, "[web]\n", {name: value})
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("place", ["file", "environment"])
def test_no_error_holds_a_secret(tmp_path: Path, place: str) -> None:
    secret = "123456789:" + "S" * 35
    for section, key in (
        ("web", "token"),
        ("telegram", "token"),
        ("remote", "api_key"),
        ("store", "encryption_key"),
    ):
        for wrong in (
            f"{key} = ['{secret}']",
            f"{key} = '{secret}'\nport = '{secret}'\nno = 1",
            f'{key} = "{secret}\\u0000"',
        ):
            text, environment = f"[{section}]\n{wrong}\n", dict[str, str]()
            if place == "environment":
                text, environment = "", {f"GLMBOT_{section.upper()}": f'{{"{key}": ["{secret}"]}}'}
            with pytest.raises(ConfigError) as raised:
                load(tmp_path, text, environment)
            assert secret not in str(raised.value)
