"""Further bots of one platform, from the configuration on: their names, what they share with nobody, their words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.scripted import ScriptedEngine
from app.test_config import load
from app.test_platforms import Settings, World, in_virtual_time
from conftest import make_dialogue, until
from glmbot.app import adapters
from glmbot.background import Troubles
from glmbot.config.configuration import secrets_in
from glmbot.config.reload import compared
from glmbot.dialogue.access import Access
from glmbot.dialogue.settings import Persona
from glmbot.doctor import examine
from glmbot.engine.named import Model
from glmbot.engine.pool import Engines
from glmbot.errors import AdapterError, ConfigError, PlatformRefused
from glmbot.http.routes import HttpAnswer, HttpCall, Route
from glmbot.keys import ChatKey, ConversationKey, UserKey, is_bot_name, kind_of
from glmbot.logs import set_up_logging
from glmbot.messages import ChatKind, Message, Reply
from glmbot.named_bot import routes_of, spoken_as, under_name, with_name
from glmbot.platforms import check, check_accounts, check_routes
from glmbot.ports import Dialogue
from glmbot.preflight import complaints
from glmbot.store.base import Store

TOKEN = "123456789:" + "A" * 35
OTHER = "123456789:" + "B" * 35
MATRIX = "[matrix.{}]\nhomeserver = 'https://b.org'\naccount = '@a:b.org'"


def test_further_bots_have_sections_and_variables_of_their_own(tmp_path: Path) -> None:
    text = f"""
[telegram]
token = "{TOKEN}"
[telegram.help-desk]
token_file = "desk.token"
system_prompt = "You are kind."
edit_interval_s = 2
[discord.games]
[access]
admins = ["telegram.help-desk:5", "telegram:6"]
open_platforms = ["discord.games"]
"""
    environment = {
        "GLMBOT_TELEGRAM__HELP_DESK__MODEL": "far",
        "GLMBOT_TELEGRAM__HELP_DESK__DRAFTS": "true",
        "GLMBOT_DISCORD__GAMES__TOKEN": "a-token-of-discord",
        "GLMBOT_SLACK__TEAM__TOKEN": "xoxb-of-a-team-that-the-file-does-not-name",
    }
    read = load(tmp_path, text, environment)
    assert set(read.adapters) == {"telegram", "telegram.help-desk", "discord.games", "slack.team"}
    desk: Any = read.adapters["telegram.help-desk"]
    assert (desk.token_file, desk.edit_interval_s, desk.drafts) == (tmp_path / "desk.token", 2.0, True)
    assert (read.bots["telegram.help-desk"].system_prompt, read.bots["telegram.help-desk"].model) == (
        "You are kind.",
        "far",
    )
    assert read.adapters["telegram"] != desk
    assert {TOKEN, "a-token-of-discord", environment["GLMBOT_SLACK__TEAM__TOKEN"]} <= set(secrets_in(read))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[telegram.Desk]\n",
            r"line 1: \[telegram\.Desk\]: a bot's name is 1 to 32 small letters and digits",
        ),
        ("[telegram.a_b]\n", "a bot's name"),
        (f"[web]\n[telegram.{'x' * 33}]\n", "line 2: .*a bot's name"),
        ('[telegram."../x"]\n', "a bot's name"),
        ('[telegram."a:b"]\n', "a bot's name"),
        ("[telegram.-a]\n", "a bot's name"),
        ("[telegram.a--b]\n", "a bot's name"),
        ("[telegram.desk]\ntokne = 'x'\n", r"line 2: \[telegram\.desk\] has no key 'tokne'.*'token'"),
        (
            "[telegram.desk]\npoll_timeout_s = 99\n",
            r"line 2: \[telegram\.desk\] poll_timeout_s: must be at most 50",
        ),
        ("[telegram.desk]\nsystem_prompt = 5\n", r"line 2: \[telegram\.desk\] system_prompt"),
        ("[web.second]\n", r"line 1: \[web\.second\]: there is one \[web\]"),
        ("[access]\nusers = ['telegram.desk:5']\n", r"users: there is no platform 'telegram\.desk'"),
        ("[telegram.desk]\n[access]\nusers = ['telegram.desk:ann']\n", "telegram.desk:123456789"),
        ("".join(f"[telegram.b{number}]\n" for number in range(51)), "at most 50"),
    ],
)
def test_what_is_wrong_with_one_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, text)


def test_a_platform_runs_itself_where_its_own_section_is_there(tmp_path: Path) -> None:
    for text, names in (
        ("[onebot.one]\nurl = 'ws://127.0.0.1:1'\n", {"onebot.one"}),
        ("[onebot]\n[onebot.one]\nurl = 'ws://127.0.0.1:1'\n", {"onebot", "onebot.one"}),
        ("onebot.one.url = 'ws://127.0.0.1:1'\n", {"onebot.one"}),
    ):
        assert set(load(tmp_path, text).adapters) == names


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True))
def test_a_key_of_a_named_bot_is_read_as_it_was_written_or_there_is_none(name: str) -> None:
    platform = f"telegram.{name}"
    if not is_bot_name(name):
        with pytest.raises(ValueError, match="is no platform"):
            UserKey(platform, "5")
        return
    assert kind_of(platform) == "telegram"
    for key in (
        UserKey(platform, "5"),
        ChatKey(platform, "5", "7"),
        ConversationKey(platform, "5", "7", "t"),
    ):
        assert type(key).parse(str(key)) == key
        assert not str(key).startswith("telegram:")


def test_two_with_one_token_are_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    bots = f"[telegram.a]\ntoken = '{TOKEN}'\n[telegram.b]\ntoken_file = 'token'\n"
    read = load(tmp_path, bots)
    with pytest.raises(AdapterError, match=r"\[telegram\.b\] token: it is that of \[telegram\.a\]") as raised:
        check(adapters(), read.adapters)
    assert TOKEN not in str(raised.value)
    found = complaints(read)
    assert any("[telegram.b] token: it is that of [telegram.a]" in line for line in found)
    check(adapters(), load(tmp_path, bots.replace(TOKEN, OTHER)).adapters)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("[onebot.a]\nurl = 'ws://h:1'", "[onebot.b]\nurl = 'ws://h:1'", "url"),
        ("[onebot.a]\nurl = 'ws://h:1'\ntoken = 'same'", "[onebot.b]\nurl = 'ws://h:2'\ntoken = 'same'", ""),
        ("[satori.a]", "[satori.b]\nplatforms = ['kook']", "url and platforms"),
        ("[satori.a]\nplatforms = ['line']", "[satori.b]\nplatforms = ['kook']", ""),
        ("[feishu.a]\napp_id = 'cli_12345678'", "[feishu.b]\napp_id = 'cli_12345678'", "app_id"),
        ("[dingtalk.a]\nclient_id = 'ding'", "[dingtalk.b]\nclient_id = 'ding'", "client_id"),
        ("[slack.a]\napp_token = 'xapp-1-x'", "[slack.b]\napp_token = 'xapp-1-x'", "app_token"),
        (MATRIX.format("a"), MATRIX.format("b"), "account"),
        ("[discord.a]\ntoken = 'same'", "[telegram.a]\ntoken = 'same'", ""),
        ("[discord.a]\ntoken = 'same'", "[discord.b]\ntoken = 'same'", "token"),
    ],
)
def test_what_makes_two_bots_one_there_is_the_platforms_to_say(
    tmp_path: Path, one: str, other: str, shared: str
) -> None:
    found = complaints(load(tmp_path, f"{one}\n{other}\n"))
    said = [line for line in found if "each bot needs one of its own" in line]
    assert [line.partition(":")[0].partition("] ")[2] for line in said] == ([shared] if shared else [])


def test_what_a_library_knows_once_in_a_process_must_be_the_same_for_all(tmp_path: Path) -> None:
    """Else one bot would show its token to the other's server."""
    bots = "[discord]\ntoken = 'one'\n[discord.b]\ntoken = 'two'\napi_base_url = 'http://127.0.0.1:1'\n"
    with pytest.raises(AdapterError, match=r"\[discord\.b\] api_base_url and gateway_url: .* \[discord\]"):
        check_accounts(load(tmp_path, bots).adapters)


def test_two_that_want_one_path_or_port_are_named(tmp_path: Path) -> None:
    hook = "webhook_url = 'https://example.org/{}'\ntoken = '{}'\n"
    one = f"[telegram]\n{hook.format('a', TOKEN)}[telegram.b]\n"
    for rest, words in (
        (
            hook.format("b", OTHER),
            r"\[telegram\.b\] webhook_url: 127\.0\.0\.1:8443 is where \[telegram\] listens",
        ),
        (
            f"webhook_port = 8444\n{hook.format('a', OTHER)}",
            r"\[telegram\.b\] webhook_url: its path is that of",
        ),
    ):
        with pytest.raises(AdapterError, match=words):
            check_routes(adapters(), load(tmp_path, one + rest).adapters)
    check_routes(adapters(), load(tmp_path, one + "webhook_port = 8444\n" + hook.format("b", OTHER)).adapters)


def test_a_missing_token_is_asked_for_by_the_bots_own_names(tmp_path: Path) -> None:
    with pytest.raises(PlatformRefused) as raised:
        check(adapters(), load(tmp_path, "[telegram.help-desk]\n").adapters)
    assert "[telegram.help-desk] no token; set GLMBOT_TELEGRAM__HELP_DESK__TOKEN" in str(raised.value)
    assert with_name("telegram", "[telegram] no token") == "[telegram] no token"


def test_a_reload_names_the_bots_that_changed(tmp_path: Path) -> None:
    before = load(tmp_path, "[telegram]\n[telegram.a]\n[telegram.b]\n")
    text = "[telegram]\n[telegram.a]\nsystem_prompt = 'x'\n[telegram.c]\n"
    assert list(compared(before, load(tmp_path, text)).applied) == ["telegram.a", "telegram.b", "telegram.c"]


async def test_doctor_speaks_of_each_bot_by_its_name(tmp_path: Path) -> None:
    read = load(tmp_path, f"[telegram.desk]\ntoken = '{TOKEN}'\napi_base_url = 'http://127.0.0.1:1'\n")
    found = [(each.part, each.words) for each in await examine(read)]
    assert ("telegram.desk", "a token is set") in found
    assert any("nobody is named on telegram.desk" in words for _, words in found)


@in_virtual_time
async def test_one_that_fails_stops_no_other_of_its_platform_and_is_restarted_alone() -> None:
    world, troubles = World(), Troubles()
    platforms = world.platforms("a", troubles=troubles)
    platforms.begin({"a": Settings(word="1"), "a.x": Settings(word="2"), "a.y": Settings(word="3")})
    await asyncio.sleep(10)
    assert world.running == {"a": ["1", "2", "3"]}
    world.falls["a"] = AdapterError("[a] token is gone")
    await asyncio.sleep(0.2)
    (trouble,) = troubles.now
    assert trouble.words == f"[{trouble.part}] token is gone"
    kept = platforms.adapters[0]
    await asyncio.sleep(10)
    platforms.change({"a": Settings(word="1"), "a.x": Settings(word="9")})
    await asyncio.sleep(10)
    assert sorted(world.running["a"]) == ["1", "9"]
    assert kept in platforms.adapters
    await platforms.stop()


@in_virtual_time
async def test_what_one_gives_up_another_has_only_once_the_first_has_ended() -> None:
    world = World()
    platforms = world.platforms("a")
    platforms.begin({"a": Settings(word="one"), "a.z": Settings(word="two")})
    await asyncio.sleep(10)
    platforms.change({"a": Settings(word="two"), "a.z": Settings(word="one")})
    await asyncio.sleep(10)
    assert sorted(world.running["a"]) == ["one", "two"]
    assert world.most_at_once == 2
    await platforms.stop()


class _Heard:
    """A dialogue that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        self.told.append((message.user, message.conversation, here))
        return True

    async def leads(self, name: str) -> bool:
        self.told.append(name)
        return True

    async def moved(self, old: Any, new: Any) -> None:
        self.told.append((old, new))

    async def keep(self, name: str, text: str) -> None:
        self.told.append((name, text))

    def administrators(self, platform: str) -> Sequence[UserKey]:
        return [UserKey(platform, "1")]


async def test_an_adapter_knows_nothing_of_its_bots_name() -> None:
    heard: Any = _Heard()
    assert spoken_as("toy", heard) is heard
    dialogue = spoken_as("toy.x", heard)
    message = Message("1", ConversationKey("toy", "5", "7"), UserKey("toy", "7"), "hi", ChatKind.GROUP)
    await dialogue.accept(message)
    await dialogue.leads("poll toy 1")
    await dialogue.moved(ChatKey("toy", "5"), ChatKey("toy", "6"))
    await dialogue.keep("toy read", "s5")
    assert heard.told == [
        (UserKey("toy.x", "7"), ConversationKey("toy.x", "5", "7"), False),
        "poll toy 1 as toy.x",
        (ChatKey("toy.x", "5"), ChatKey("toy.x", "6")),
        ("toy read as toy.x", "s5"),
    ]
    assert dialogue.administrators("toy") == [UserKey("toy", "1")]
    with pytest.raises(ValueError, match=r"toy\.x speaks of the platform web"):
        await dialogue.moved(ChatKey("web", "5"), ChatKey("web", "6"))


def test_whatever_an_adapter_may_say_of_people_and_places_gets_the_name() -> None:
    """A port that is added tomorrow has to be looked at."""
    of_all = {
        "all_tool_calls", "commands", "complete", "health", "metrics", "models", "obstacles", "overview", "panel",
        "panel_does", "text", "tool_calls",
    }  # fmt: skip
    ports = {name for name in dir(Dialogue) if not name.startswith("_")}
    named = {name for name in vars(type(spoken_as("toy.x", object()))) if not name.startswith("_")}
    assert ports - of_all == named


async def test_log_lines_say_which_bot_they_are_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    set_up_logging("INFO", ())
    log = logging.getLogger("glmbot_toy")

    async def handle(_: HttpCall) -> HttpAnswer:
        log.info("asked over HTTP")
        return HttpAnswer()

    with under_name("toy.x"):
        log.info("Toy: listening")
        await asyncio.create_task(_say(log))
    (route,) = routes_of("toy.x", [Route("/toy", lambda _: True, handle)])
    await route.handle(HttpCall("POST", {}, {}, b""))
    log.info("of nobody in particular")
    lines = [line.partition("glmbot_toy: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "toy.x: Toy: listening", "toy.x: of a task", "toy.x: asked over HTTP", "of nobody in particular",
    ]  # fmt: skip


async def _say(log: logging.Logger) -> None:
    log.info("of a task")


async def test_a_bot_has_its_own_prompt_and_model(sqlite_store: Store) -> None:
    engines, said = await _two_models()
    open_to = Access(open_platforms={"toy", "toy.x"})
    personas = {"toy.x": Persona("You are a pirate.", "OTHER")}
    dialogue = make_dialogue(engines, sqlite_store, access=open_to, personas=personas, people_choose=True)
    answers = {name: (await _asked(dialogue, name, "hi")).text for name in ("toy", "toy.x")}
    assert answers == {"toy": "of first", "toy.x": "of other"}
    assert "S:You are a pirate." in said["other"].prompts[0]
    assert "pirate" not in said["first"].prompts[0]
    assert "pirate" in (await _asked(dialogue, "toy.x", "/prompt")).notice
    # A person may still choose, for this bot alone; and go back to what it is by itself.
    for command, model in (("/model first", "first"), ("/model default", "other")):
        await _asked(dialogue, "toy.x", command)
        assert (await _asked(dialogue, "toy.x", f"after {command[1:]}")).text == f"of {model}"
    assert (await _asked(dialogue, "toy", "again")).text == "of first"
    await engines.close()


async def test_a_persona_that_can_not_be_is_refused_by_its_key(sqlite_store: Store) -> None:
    engines, _ = await _two_models()
    for persona, words in (
        (Persona(model="third"), r"\[toy\.x\] model: there is no 'third'; known are: first, other"),
        (Persona(system_prompt="x" * 70_000), r"\[toy\.x\] system_prompt: "),
    ):
        with pytest.raises(ValueError, match=words):
            make_dialogue(engines, sqlite_store, personas={"toy.x": persona})
    await engines.close()


async def _two_models() -> tuple[Any, dict[str, ScriptedEngine]]:
    said = {name: ScriptedEngine(f"of {name}") for name in ("first", "other")}

    def started(engine: ScriptedEngine) -> Any:
        async def start(_: object) -> ScriptedEngine:
            return engine

        return start

    engines: Any = Engines([Model(name, started(engine)) for name, engine in said.items()])
    await engines.start()
    await until(lambda: all(engines.ready(name) for name in said))
    return engines, said


async def _asked(dialogue: Any, platform: str, text: str) -> Reply:
    key = ConversationKey(platform, "5")
    message = Message(f"{platform} {text}", key, UserKey(platform, "5"), text)
    await dialogue.accept(message)
    reply = [reply async for reply in dialogue.respond(message)][-1]
    await dialogue.delivered(message)
    return reply
