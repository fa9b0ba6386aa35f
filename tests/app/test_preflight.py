"""What `glmbot check` says of a configuration that could not be run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from glmbot.app import adapter_settings, visited_platforms
from glmbot.config.load import load_configuration
from glmbot.doctor import _access
from glmbot.preflight import complaints
from platforms.telegram_server import TOKEN


def said(folder: Path, text: str) -> list[str]:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return complaints(load_configuration(path, adapter_settings(), {}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[telegram]\n", "[telegram] no token; set GLMBOT_TELEGRAM__TOKEN"),
        ("[discord]\n", "[discord] no token; set GLMBOT_DISCORD__TOKEN"),
        ("[telegram]\ntoken_file = 'gone.token'\n", "[telegram] token_file"),
        ("[telegram]\ntoken_file = 'empty.token'\n", "is empty"),
        ("[web]\nhost = '0.0.0.0'\n", "[web] host 0.0.0.0 can be reached from other machines"),
        ("[web]\ntoken = 'the same'\nadmin_token = 'the same'\n", "are the same"),
        ("[model]\npath = 'nowhere'\n", "[model] path: "),
        ("[model]\npath = 'empty'\n", "this is not a Transformers model folder"),
        ("[model]\nprefix_path = 'nowhere'\npath = '{model}'\n", "[model] prefix_path"),
        ("[model]\nadapters = ['empty']\npath = '{model}'\n", "[model] adapters: "),
        ("[model]\nmax_answer_tokens = 2048\npath = '{model}'\n", "[model] max_answer_tokens is 2048"),
        ("[store]\nkind = 'redis'\nurl = 'localhost'\n", "[store] url: Redis URL must specify"),
        ("[store]\nkind = 'redis'\nurl = 'http://localhost'\n", "[store] url: Redis URL must specify"),
        ("[store]\nencryption_key = 'short'\n", "[store] encryption_key"),
        ("[store]\nencryption_key_file = 'gone.key'\n", "[store] encryption_key_file"),
        ("[store]\npath = 'empty'\n", "is a folder, and must be a file"),
        ("[store]\npath = 'config.toml/store.sqlite3'\n", "can't be written"),
        (f"[store]\npath = '{300 * 'a'}/store.sqlite3'\n", "[store] path: "),
        (
            f"[store]\npath = 'store.sqlite3'\n[model]\nprefix_path = '{300 * 'a'}'\npath = '{{model}}'\n",
            "[model] prefix_path",
        ),
        ("[remote]\nservers = ['http://127.0.0.1:9/v1']\n", "[remote] tokenizer is missing"),
        (
            "[remote]\nservers = ['http://127.0.0.1:9/v1']\ntokenizer = 'nowhere'\n",
            "[remote] tokenizer: ",
        ),
        (
            "[remote]\nservers = ['http://127.0.0.1:9/v1']\ninterface = 'chat'\napi_key_file = 'gone'\n",
            "[remote] api_key_file",
        ),
        ("[moderation]\nwords_file = 'gone.txt'\n", "[moderation] words_file"),
    ],
)
def test_what_can_be_known_before_a_start_is_said(
    tiny_model: Path, tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.token").touch()
    text = text.format(model=tiny_model)
    if "[model]" not in text:
        text += f"[model]\npath = '{tiny_model}'\n"
    (line,) = said(tmp_path, text)
    assert complaint in line


def test_all_of_it_is_said_at_once_and_nothing_of_what_is_in_order(tiny_model: Path, tmp_path: Path) -> None:
    model = f"[model]\npath = '{tiny_model}'\n"
    assert said(tmp_path, f"[web]\n[telegram]\ntoken = '{TOKEN}'\n[console]\n{model}") == []
    lines = said(tmp_path, f"[web]\nhost = '::'\n[telegram]\n[discord]\n{model}max_answer_tokens = 9999\n")
    assert len(lines) == 4


def test_doctor_asks_for_names_on_every_platform_but_those_that_people_visit(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[web]\n[toy]\n[telegram]\n[access]\nusers = ['telegram:7']\n")
    read = load_configuration(path, {**adapter_settings(), "toy": BaseModel}, {})
    assert {"web", "console"} == visited_platforms()
    found = {each.words.partition(":")[0]: each.ok for each in _access(read, visited_platforms())}
    assert found == {"nobody is named on toy": False, "telegram": True}
