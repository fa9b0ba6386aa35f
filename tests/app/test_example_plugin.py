"""The plug-in that the documentation shows: built, installed, and run; and the same one broken in each way."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.scripted import ScriptedEngine
from app.test_plugin_engines import completed
from conftest import DIES_WITH_US, REPOSITORY, until
from glmbot.app import adapters, dialogue_for, plugins_for, read_configuration
from glmbot.background import Troubles
from glmbot.dialogue.manager import DialogueManager
from glmbot.engine.named import Model
from glmbot.engine.pool import Engines
from glmbot.engines import engines_for
from glmbot.errors import ContentRefused, EngineError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Role
from glmbot.platforms import Platforms
from glmbot.store.sqlite import SqliteStore
from tools.fake_use import FakeUse

PAGES = [REPOSITORY / "docs" / name for name in ("plugins.md", "plugins.zh.md")]


def shown(page: Path) -> dict[str, str]:
    """The files that a page shows, by name."""
    return dict(re.findall(r'^```\w+ title="([\w.]+)"\n(.*?)^```', page.read_text("utf-8"), re.M | re.S))


def pip(*given: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", *given, "--quiet", "--no-deps", "--no-index"]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [*DIES_WITH_US, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exactly what the page shows, installed from its wheel."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "glmbot_example.py"):
        (source / name).write_text(shown(PAGES[0])[name], "utf-8")
    pip("wheel", ".", "--no-build-isolation", folder=source)
    (wheel,) = source.glob("*.whl")
    pip("install", "--target", str(target), str(wheel), folder=source)
    return target


@pytest.fixture
def on_path(installed: Path) -> Generator[Path]:
    sys.path.insert(0, str(installed))
    yield installed
    sys.path.remove(str(installed))
    for name in ("glmbot_example", "glmbot_broken"):
        sys.modules.pop(name, None)


@asynccontextmanager
async def bot(folder: Path, more: str = "") -> AsyncGenerator[DialogueManager]:
    """As `glmbot run` joins it, with an engine that says again what it was asked."""
    file = folder / "config.toml"
    file.write_text(shown(PAGES[0])["config.toml"] + "[plugins.example]\nsides = 20\n" + more, "utf-8")
    configuration = read_configuration(file)
    plugins = plugins_for(configuration)
    store = SqliteStore(folder / "store.sqlite3")
    await store.open()
    engine = ScriptedEngine(lambda prompt: "You said: " + prompt.rpartition("Q:")[2].removesuffix("\nA:"))

    async def start(_: object) -> ScriptedEngine:
        return engine

    # In the place of [model].
    others = [place.model for place in engines_for(configuration, plugins.engines)._places[1:]]
    engines = Engines([Model("scripted", start), *others])
    await engines.start()
    dialogue = dialogue_for(configuration, store, engines, plugins=plugins)
    platforms = Platforms(adapters(plugins), dialogue, Troubles())
    keeping = asyncio.create_task(dialogue.run())
    platforms.begin(configuration.adapters)
    try:
        yield dialogue
    finally:
        await platforms.stop()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await dialogue.close()
        await engines.close()
        await store.close()


async def asked(folder: Path, name: str, text: str) -> str:
    """By the example's own platform."""
    answer = folder / "postbox" / f"{name}.answer"
    await until(answer.parent.is_dir)
    (folder / "postbox" / f"{name}.new").write_text(text, "utf-8")
    (folder / "postbox" / f"{name}.new").rename(folder / "postbox" / f"{name}.txt")
    await until(lambda: answer.is_file() and answer.stat().st_size > 0)
    return answer.read_text("utf-8")


def test_both_pages_show_the_same_files() -> None:
    assert shown(PAGES[0]) == shown(PAGES[1])
    assert set(shown(PAGES[0])) == {"pyproject.toml", "glmbot_example.py", "config.toml"}


async def test_each_part_of_the_example_works(on_path: Path, tmp_path: Path) -> None:
    async with bot(tmp_path) as dialogue:
        assert await asked(tmp_path, "q1", "hello") == "You said: hello\n– example"
        assert re.fullmatch(r"You rolled \d+ of 20\.", await asked(tmp_path, "q2", "/dice"))
        assert "/dice SIDES – roll a die" in await asked(tmp_path, "q3", "/help")
        assert "dice" in [info.name for info in dialogue.commands("zh", Role.USER)]
        tool = dialogue.plugins.tools["roll"]
        assert 1 <= int(await tool.tool.function(FakeUse({}))) <= 20
        user = UserKey.parse("console:1")
        where = ConversationKey(user.platform, user.id)
        voice = Message("v", where, user, "", vouched=Role.USER, media="voice", user_name="Ann")
        await dialogue.accept(voice, here=True)
        replies = [reply async for reply in dialogue.respond(voice)]
        assert replies[-1].text == "You said: (a voice message from Ann)"
        assert list(dialogue.models()) == ["scripted", "loud"]
        assert (await completed(dialogue, "loud", "hello there")).text == "HELLO THERE"
        assert "does not allow" in await asked(tmp_path, "q4", "darn it")
        with pytest.raises(ContentRefused):
            await completed(dialogue, "loud", "darn it")


BREAKS = {
    "raises when it registers": ("settings = host.settings(Settings)", 'raise RuntimeError("broken")'),
    "has wrong settings": ("sides: int", "needed: str\n    sides: int"),
    "is no Python": ("def register", "def register def"),
    "has no register": ("def register", "def other"),
    "lacks a language": ('zh={"command.dice"', 'zh={"command.dise"'),
    "has a wrong tool": ('{"type": "object", "properties": {}}', "{}"),
    "has a wrong place": ('before="moderate"', 'before="nobody"'),
    "raises in a step": ("ended = reply.state.ended and reply.text", 'raise RuntimeError("broken")'),
    "raises in a command": (
        "sides = int(call.argument)",
        'raise RuntimeError("broken")\n        sides = int("1")',
    ),
    "raises in a transform": ('return f"(a voice', 'raise RuntimeError("broken")\n        return f"(a voice'),
    "raises in its moderator": (
        'return "darn" not in',
        'if "break" in passage.text: raise RuntimeError("broken")\n        return "darn" not in',
    ),
    "raises when its engine starts": ("self.loud = settings.loud", 'raise RuntimeError("broken")'),
    "raises in its engine": ("role, text =", 'raise RuntimeError("broken")\n        role, text ='),
    "has an engine without settings": ("Echo.Settings, Echo)", "None, Echo)"),
    "raises in a tool": ("return str(random", 'raise RuntimeError("broken")\n        return str(random'),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_a_broken_one_beside_it_hurts_nobody(
    on_path: Path, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same package once more, by another name, broken in one way; its own commands and places differ."""
    beside = tmp_path / "beside"
    beside.mkdir()
    text = shown(PAGES[0])["glmbot_example.py"]
    assert text.count(BREAKS[what][0]) == 1
    text = text.replace(*BREAKS[what])
    for old, new in (
        ("dice", "broken"),
        ('"roll"', '"rolls"'),
        ('"sign"', '"signs"'),
        ('"voice"', '"video"'),
        ('"polite"', '"politer"'),
        ('"echo"', '"parrot"'),
    ):
        text = text.replace(old, new)
    text = text.replace('"postbox", Postbox', '"parcels", Postbox')
    if "step" in what:
        # For the messages that it means alone: it stands in everybody's way.
        text = text.replace(
            'raise RuntimeError("broken")',
            'if "break" in reply.text: raise RuntimeError("broken")\n                ended = False',
        )
    (beside / "glmbot_broken.py").write_text(text, "utf-8")
    (info,) = on_path.glob("*.dist-info")
    copied = shutil.copytree(info, beside / "glmbot_broken-1.0.dist-info")
    entry = copied / "entry_points.txt"
    entry.write_text(entry.read_text().replace("example", "broken"), "utf-8")
    (copied / "METADATA").write_text("Metadata-Version: 2.1\nName: glmbot-broken\nVersion: 1.0\n", "utf-8")
    sys.path.insert(0, str(beside))
    try:
        of_broken = '[models.parrot]\nengine = "parrot"\n' if "engine" in what and "raises" in what else ""
        async with bot(tmp_path, of_broken) as dialogue:
            plugin = next(each for each in dialogue.plugins.found if each.name == "broken")
            registers = what.startswith("raises in") or of_broken
            assert bool(plugin.trouble) == (not registers), plugin.trouble
            assert ("the plug-in broken is left out" in caplog.text) == bool(plugin.trouble)
            if "command" in what:
                assert "(broken) failed" in await asked(tmp_path, "q0", "/broken")
            if "step" in what:
                # It was recorded before that, and stands.
                assert await asked(tmp_path, "q0", "break") == "You said: break"
            if "moderator" in what:
                assert "does not allow" in await asked(tmp_path, "q0", "break")
            if of_broken:
                with pytest.raises(EngineError):
                    await completed(dialogue, "parrot", "hello")
                assert (await completed(dialogue, "loud", "hello")).text == "HELLO"
            assert (await asked(tmp_path, "q1", "hello")).startswith("You said: hello\n– example")
            assert re.fullmatch(r"You rolled \d+ of 20\.", await asked(tmp_path, "q2", "/dice"))
    finally:
        sys.path.remove(str(beside))
        sys.modules.pop("glmbot_broken", None)


def test_the_command_line_lists_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[plugins.example]\nsides = 1\n", "utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [*DIES_WITH_US, sys.executable, "-m", "glmbot", "plugins", "-c", str(tmp_path / "config.toml")],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "commands (glmbot" in done.stdout
    assert (
        "example (glmbot-example 1.0)\n  left out: [plugins.example] sides: Input should be greater"
        in done.stdout
    )
