"""The questions of `glmbot init`: what is wrong is said and asked again, and what is written can be run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from gguf_file import write_gguf
from glmbot import i18n
from glmbot.app import adapter_settings, adapters
from glmbot.config.load import load_configuration
from glmbot.errors import AdapterError, ConfigError, PlatformRefused, StoreError
from glmbot.introduction import Introduction, Question, introductions
from glmbot.setup import Answers, ask_configuration
from glmbot.setup_checks import Network

TOKEN = "123456789:" + "A" * 35
OTHER_TOKEN = "123456789:" + "B" * 35


class Person:
    """Answers to questions, of platforms those about Telegram, each answer once; else the default."""

    def __init__(self, language: str = "en", **answers: str | bool | list[str]) -> None:
        self._answers: dict[str, list[str | bool]] = {}
        for key, given in answers.items():
            if key == "token_telegram":
                question = introductions()["telegram"].questions[0].words[language]
            else:
                question = i18n.catalogue(language)[f"setup.{key}"].format(platform="Telegram")
            self._answers[question] = [*given] if isinstance(given, list) else [given]
        self.told: list[str] = []

    def ask(self, question: str, default: str = "", *, hidden: bool = False) -> str:
        return str(self._next(question, default))

    def confirm(self, question: str, *, default: bool) -> bool:
        return bool(self._next(question, default))

    def say(self, words: str) -> None:
        self.told.append(words)

    def done(self) -> bool:
        return not any(self._answers.values())

    def _next(self, question: str, default: str | bool) -> str | bool:
        given = self._answers.get(question)
        return given.pop(0) if given else default


class World:
    """Where port 80 is taken, only TOKEN is known, and Telegram is reached through a proxy alone."""

    def taken(self, port: int) -> str:
        assert 0 < port < 65536
        return "Permission denied" if port == 80 else ""

    def model(self, path: Path) -> str:
        return "" if (path / "config.json").is_file() else "no model here"

    def servers(self) -> Sequence[str]:
        return ["http://127.0.0.1:11434/v1"]

    def served(self, server: str, key: str) -> Sequence[str]:
        if "11434" not in server:
            raise ConfigError("connection refused")
        return ["qwen3:4b", "glm4:9b"]

    def bot(self, platform: str, settings: Mapping[str, str]) -> str:
        if "proxy" not in settings:
            raise AdapterError("nothing came within 20 seconds")
        if settings["token"] != TOKEN:
            raise PlatformRefused("Telegram does not know it")
        return "@glm_of_ada_bot"

    def store(self, url: str) -> None:
        if not url.startswith("redis://"):
            raise ConfigError("Redis URL must specify one of the following schemes")
        raise StoreError("connection refused")


def answered(person: Person, file: Path, language: str = "en") -> Answers:
    answers = ask_configuration(person, World(), file, language)
    assert person.done()
    file.write_text(answers.toml, "utf-8")
    for name, secret in answers.secrets.items():
        (file.parent / name).write_text(secret)
    load_configuration(file, adapter_settings(), {})
    return answers


def test_everything_wrong_is_said_and_asked_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    person = Person(
        model=["nonsense", "n" * 300, "~nobody.at.all/m", str(tmp_path), tiny_model.name],
        port=["http", "-1", "70000", "0080801", "80", "8099"],
        platforms=["telegarm, web", "0", "99", "telegram.Desk", "1"],
        token_telegram=["no token", OTHER_TOKEN, TOKEN],
        proxy=["nonsense", "http://127.0.0.1:7890"],
        admin=["Ada", "777"],
        redis=True,
        redis_url=["localhost", "redis://127.0.0.1:6379/0"],
        keep=True,
    )
    answers = answered(person, tmp_path / "bot.toml")
    told = "\n".join(person.told)
    for words in (
        "There is no folder or file nonsense", "That model can't be run: no model here", "http is no port", "-1 is no port", "70000 is no port",
        "0080801 is no port",
        "Port 80 can't be listened on: Permission denied", "has not the form of a Telegram token",
        "Telegram does not know it", "nonsense is no address", "@glm_of_ada_bot", "Ada is no id",
        "Redis URL must specify", "None of these: telegarm, web.", "None of these: 99.",
        "None of these: telegram.Desk.", "   1 Telegram (telegram)", "Telegram, section [telegram]:",
    ):  # fmt: skip
        assert words in told
    assert tomllib.loads(answers.toml) == {
        # A relative path would count from the folder of the file.
        "model": {"path": str(tiny_model)},
        "store": {"kind": "redis", "url": "redis://127.0.0.1:6379/0"},
        "access": {"admins": ["telegram:777"]},
        "web": {"port": 8099, "admin": True},
        "telegram": {"token_file": "bot-telegram.token", "proxy": "http://127.0.0.1:7890"},
    }
    assert answers.secrets == {"bot-telegram.token": TOKEN}
    assert f"glmbot run --config {tmp_path / 'bot.toml'}" in "\n".join(answers.next_steps)


def test_a_server_that_runs_already_is_found_and_asked_for_its_models(tmp_path: Path) -> None:
    person = Person(
        remote=True,
        server=["nonsense", "http://127.0.0.1:9/v1", "http://127.0.0.1:11434/v1"],
        key=["", "sk-secret"],
    )
    answers = answered(person, tmp_path / "config.toml")
    assert person.told[1] == "These model servers answer on this machine: http://127.0.0.1:11434/v1"
    assert "That did not work: connection refused" in person.told
    assert tomllib.loads(answers.toml)["remote"] == {
        "servers": ["http://127.0.0.1:11434/v1"],
        "interface": "chat",
        "model": "qwen3:4b",
        "api_key_file": "remote.key",
    }
    assert answers.secrets == {"remote.key": "sk-secret"}


def test_enter_alone_makes_a_page_with_the_demo_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = answered(Person(), Path("config.toml"))
    assert answers.next_steps[:2] == ["Get the demo model: glmbot pull", "Start the bot: glmbot run"]
    assert not answers.secrets


def test_chinese_is_spoken_where_the_terminal_does(tmp_path: Path) -> None:
    person = Person("zh", port=["八千", "8090"])
    answers = answered(person, tmp_path / "config.toml", "zh")
    assert "八千 不是端口号，应为 1 到 65535 的数字。" in person.told
    assert "启动机器人" in "\n".join(answers.next_steps)
    assert not any(
        words.isascii() for words in (*person.told, *answers.next_steps) if not words.startswith("/")
    )


def test_several_platforms_are_chosen_at_once_and_further_bots_with_them(tmp_path: Path) -> None:
    person = Person(
        platforms="telegram.help-desk、TELEGRAM 1",
        token_telegram=[TOKEN, TOKEN],
        proxy=["http://127.0.0.1:7890", "http://127.0.0.1:7890"],
        admin=["777", ""],
    )
    answers = answered(person, tmp_path / "config.toml")
    read = tomllib.loads(answers.toml)
    assert read["telegram"]["token_file"] == "telegram.token"
    assert read["telegram"]["help-desk"]["token_file"] == "telegram.help-desk.token"
    assert read["access"]["admins"] == ["telegram.help-desk:777"]
    assert set(answers.secrets) == {"telegram.token", "telegram.help-desk.token"}


def test_whatever_an_adapter_says_of_itself_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is installed tomorrow needs no line here."""
    asked = Question("room", {"en": "Which room?", "zh": "哪个房间？"}, form=r"!\w+")
    new = Introduction({"en": "Toy", "zh": "玩具"}, [asked], {"en": "Play{option}", "zh": "玩{option}"})
    monkeypatch.setattr("glmbot.setup.introductions", lambda: {"toy": new})
    person = Person(platforms="toy")
    person._answers["Which room?"] = ["room", "!den"]  # pyright: ignore[reportPrivateUsage]
    answers = ask_configuration(person, World(), tmp_path / "config.toml", "en")
    assert tomllib.loads(answers.toml)["toy"] == {"room": "!den"}
    assert any(step.startswith("Play --config ") for step in answers.next_steps)


ANSWERS: Mapping[str, Mapping[str, str]] = {
    "telegram": {"token": TOKEN},
    "discord": {"token": "A" * 24 + ".GaBcDe." + "b" * 30},
    "onebot": {"url": "ws://127.0.0.1:3001", "token": "secret-token"},
    "qq": {"app_id": "102000001", "token": "DG5g3B4j9X2KOErG"},
    "satori": {"url": "http://127.0.0.1:5500", "token": "secret-token"},
    "slack": {"token": "xoxb-1111111111-testtesttest", "app_token": "xapp-1-A1-1111-testtesttest"},
    "matrix": {
        "homeserver": "https://matrix.example.org",
        "account": "@glm:example.org",
        "token": "syt_secret",
    },
    "feishu": {"app_id": "cli_a1b2c3d4e5", "token": "s" * 32},
    "dingtalk": {"client_id": "dingabcdefgh", "token": "s" * 32},
    "wecom": {"bot_id": "aibabcdefgh", "token": "s" * 32},
}


@pytest.mark.parametrize("platform", [name for name, each in introductions().items() if each.questions])
def test_what_is_answered_of_each_platform_is_a_configuration_with_which_it_starts(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "bot", lambda *_: "@glm_of_ada_bot")
    person, questions = Person(platforms=platform), introductions()[platform].questions
    for question in questions:
        person._answers[question.words["en"]] = [ANSWERS[platform][question.key]]  # pyright: ignore[reportPrivateUsage]
    answers = answered(person, tmp_path / "config.toml")
    # Nothing secret stands in the file.
    secrets = {ANSWERS[platform][question.key] for question in questions if question.secret}
    assert set(answers.secrets.values()) == secrets
    assert not any(secret in answers.toml for secret in secrets)
    read = load_configuration(tmp_path / "config.toml", adapter_settings(), {})
    if (check := getattr(adapters()[platform], "check", None)) is not None:
        check(read.adapters[platform], None)
    assert any("--config" in step for step in answers.next_steps)


def test_two_bots_with_one_token_are_not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def identify(settings: object) -> str:
        return "@ann_bot"

    monkeypatch.setattr(adapters()["telegram"], "identify", identify)
    monkeypatch.setenv("GLMBOT_TELEGRAM__DESK__API_BASE_URL", "http://127.0.0.1:9")
    network = Network(())
    assert network.bot("telegram.desk", {"token": TOKEN}) == "@ann_bot"
    with pytest.raises(PlatformRefused, match=r"\[telegram\.b\] token: it is that of \[telegram\.desk\]"):
        network.bot("telegram.b", {"token": TOKEN})
    assert network.bot("telegram.b", {"token": OTHER_TOKEN}) == "@ann_bot"


def test_whatever_the_bot_can_run_is_taken_as_its_model_and_nothing_else(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A folder, a GGUF file, a folder that holds one."""
    network = Network(())
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, "llama")
    assert [network.model(path) for path in (tiny_model, file, tmp_path)] == ["", "", ""]
    file.write_bytes(b"not one")
    assert "tiny.gguf" in network.model(file)
    (unknown := tmp_path / "unknown").mkdir()
    assert "not a Transformers model folder" in network.model(unknown)
    (unknown / "config.json").write_text('{"model_type": "abacus"}')
    assert "'abacus' is not among those" in network.model(unknown)
