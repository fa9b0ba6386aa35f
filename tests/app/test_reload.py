"""Reading the configuration again: what is said to hold does, what is said to wait does not, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dialogue.scripted_engine import ScriptedEngine
from dialogue.test_door import installed
from glmbot.app import _Running, adapter_settings
from glmbot.config.configuration import Configuration
from glmbot.config.load import load_configuration
from glmbot.dialogue.reloaded import Reloaded
from glmbot.dialogue.settings import DialogueSettings
from glmbot.engine.pool import Engines
from glmbot.host import Direction, ModerationSettings, Moderator, Passage


class _Bot:
    """What runs, as far as a reload touches it."""

    def __init__(self) -> None:
        self.settings: DialogueSettings | None = None
        self.wanted: Mapping[str, BaseModel] = {}
        self.moderation: Any = None

    def reconfigure(self, access: object, settings: DialogueSettings, moderation: object) -> None:
        self.settings, self.moderation = settings, moderation

    def change(self, wanted: Mapping[str, BaseModel]) -> None:
        self.wanted = wanted


@pytest.fixture(autouse=True)
def _logging() -> Generator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def reloaded(tmp_path: Path) -> Callable[[str], tuple[Reloaded, _Bot]]:
    path, bot = tmp_path / "config.toml", _Bot()

    def read(text: str) -> Configuration:
        path.write_text(text, "utf-8")
        return load_configuration(path, adapter_settings(), {})

    running = _Running(read("[web]\nport = 0\n"), lambda: load_configuration(path, adapter_settings(), {}))
    parts: Any = running
    parts._platforms = parts._dialogue = bot
    parts._engines = Engines.of(ScriptedEngine())

    def reload(text: str) -> tuple[Reloaded, _Bot]:
        path.write_text(text, "utf-8")
        return running.reload(), bot

    return reload


def test_what_waits_for_a_restart_is_not_applied_and_is_said_each_time(
    reloaded: Callable[[str], tuple[Reloaded, _Bot]],
) -> None:
    for text in ("[model]\nmax_answer_tokens = 7\n", "[model]\nmax_answer_tokens = 9\n"):
        told, bot = reloaded("[web]\nport = 0\n" + text)
        assert (list(told.applied), list(told.waiting), told.error) == ([], ["model"], "")
        assert bot.settings is not None
        assert bot.settings.sampling.max_tokens == 512
    told, bot = reloaded("[web]\nport = 0\n[dialogue]\nturn_limit = 3\n[model]\nmax_answer_tokens = 9\n")
    assert (list(told.applied), list(told.waiting)) == (["dialogue"], ["model"])
    assert bot.settings is not None
    assert (bot.settings.turn_limit, bot.settings.sampling.max_tokens) == (3, 512)
    told, _ = reloaded("[web]\nport = 0\n[dialogue]\nturn_limit = 3\n")
    assert (list(told.applied), list(told.waiting)) == ([], [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[web]\nport = -1\n", "port"),
        ("[web]\nport = 0\n[telegram]\n", "no token"),
        ("[web]\nport = 0\nhost = '0.0.0.0'\n", "set token"),
        ("[web]\nport = 0\n[moderation]\nwords_file = 'nowhere'\n", "words_file"),
        ("[web", "not valid TOML"),
    ],
)
def test_what_can_not_be_taken_changes_nothing_at_all(
    reloaded: Callable[[str], tuple[Reloaded, _Bot]], text: str, complaint: str
) -> None:
    told, bot = reloaded(text + "\n[log]\nlevel = 'DEBUG'\n[dialogue]\nturn_limit = 3\n")
    assert complaint in told.error
    assert bot.settings is None
    assert bot.wanted == {}
    assert logging.getLogger().level != logging.DEBUG


async def test_moderators_are_started_anew_and_one_that_can_not_be_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async def allows(passage: Passage) -> bool:
        return "rude" not in passage.text

    def start(settings: ModerationSettings) -> Moderator:
        if settings.timeout_s == 7:
            raise OSError("no luck")
        return Moderator(allows)

    installed(monkeypatch, manners=lambda host: host.moderator("manners", start))
    reloaded: Callable[[str], tuple[Reloaded, _Bot]] = request.getfixturevalue("reloaded")
    words = tmp_path / "words"
    words.write_text("bomb")
    _, bot = reloaded(f"[web]\nport = 0\n[moderation]\nwords_file = '{words}'\n")
    for text, allowed in (("a bomb", False), ("rude", False), ("nice", True)):
        assert await bot.moderation.allows(Direction.QUESTION, text, user="", conversation="") is allowed
    before = bot.moderation
    told, bot = reloaded("[web]\nport = 0\n[moderation]\ntimeout_s = 7\n")
    assert "the moderator manners of the plug-in manners can't be started: OSError: no luck" in told.error
    assert bot.moderation is before


async def test_at_the_start_each_moderator_is_started_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[float] = []

    def start(settings: ModerationSettings) -> None:
        started.append(settings.timeout_s)

    installed(monkeypatch, manners=lambda host: host.moderator("manners", start))
    monkeypatch.setattr("glmbot.engines.engines_for", lambda *_: Engines.of(ScriptedEngine()))
    path = tmp_path / "config.toml"
    path.write_text(f"[web]\nport = 0\n[store]\npath = '{tmp_path / 'bot.sqlite3'}'\n", "utf-8")
    running = _Running(load_configuration(path, adapter_settings(), {}), None)
    async with AsyncExitStack() as stack:
        await running.start(stack, None)
    assert len(started) == 1


def test_platforms_that_changed_are_named_and_changed(
    reloaded: Callable[[str], tuple[Reloaded, _Bot]],
) -> None:
    told, bot = reloaded("[web]\nport = 0\nadmin = true\n[telegram]\ntoken = '5:x'\n")
    assert list(told.applied) == ["telegram", "web"]
    assert set(bot.wanted) == {"telegram", "web"}
