"""Engines that plug-ins bring: configured like any other model, and their faults are theirs alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from dialogue.scripted_engine import ScriptedEngine
from dialogue.test_door import installed
from dialogue.test_manager import ADMIN, ANN, last, say
from glmbot.app import dialogue_for, plugins_for, read_configuration
from glmbot.completions import Completion
from glmbot.config.configuration import Configuration, secrets_in
from glmbot.config.reload import compared
from glmbot.content import Text, ToolCall, ToolResult
from glmbot.dialogue.manager import DialogueManager
from glmbot.doctor import _plugged
from glmbot.engine.base import Ability, Conversation, FinishReason, Precision, Sampling
from glmbot.engine.named import Model
from glmbot.engine.pool import Engines
from glmbot.engines import engines_for
from glmbot.errors import ConfigError, EngineError, ModelUnavailable
from glmbot.forms import Form, FormKind
from glmbot.host import ChatRequest, Host
from glmbot.keys import UserKey
from glmbot.messages import Reply, ReplyState
from glmbot.models.calls.tagged import TaggedJson
from glmbot.plugin_engine import start_plugin_engine
from glmbot.preflight import complaints
from glmbot.store.base import Store
from glmbot.tools import Offer, ToolDescription
from virtual_time import run_in_virtual_time

HEAD = (
    "[access]\nadmins = ['telegram:1']\nopen_platforms = ['telegram']\n"
    "[dialogue]\nlanguage = 'en'\ndeadline_s = 30\n[models]\npeople_choose = true\n"
)


class Settings(BaseModel):
    """Of the engine that says its last message again."""

    before: str = ""
    pieces: int = Field(default=4, ge=1, le=100, description="Into how many pieces an answer is cut.")
    key: SecretStr = SecretStr("")
    voices: list[str] = []
    folder: Path = Path("voices")

    @field_validator("before")
    @classmethod
    def _checked(cls, before: str) -> str:
        if before == "odd":
            raise KeyError(before)
        return before


class Echo:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests: list[ChatRequest] = []
        self.closed = False

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Any, None]:
        self.requests.append(request)
        said = request.messages[-1][1]
        match said:
            case "raise":
                yield "half"
                raise LookupError("broken")
            case "hang":
                yield "half"
                await asyncio.Event().wait()
            case "nonsense":
                yield 5
            case "leave":
                raise SystemExit(3)
            case "cancel":
                raise asyncio.CancelledError
            case "busy":
                for _ in range(1_000_000):
                    yield ""
            case "half a character":
                yield "half \ud83d"
            case "endless":
                while True:
                    yield "on and on "
                    await asyncio.sleep(0)
            case "think":
                yield "<think>what to say</think>said"
            case _:
                text = self.settings.before + said
                size = -(-len(text) // self.settings.pieces)
                for begin in range(0, len(text), size):
                    yield text[begin : begin + size]
                    await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.closed = True


_made: list[Echo] = []


def register(host: Host) -> None:
    async def start(settings: Settings) -> Any:
        if settings.before == "raise":
            raise OSError("no such thing")
        if settings.before == "leave":
            raise SystemExit(3)
        if settings.before == "hang":
            await asyncio.Event().wait()
        made = Echo(settings)
        _made.append(made)
        return None if settings.before == "nothing" else made

    host.engine("echo", Settings, start)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _made.clear()
    installed(monkeypatch, parrot=register)


def read(folder: Path, models: str) -> Configuration:
    (folder / "config.toml").write_text(HEAD + models, "utf-8")
    return read_configuration(folder / "config.toml")


def pool(configuration: Configuration) -> Engines:
    """With an engine of a test in the place of [model]."""
    made = engines_for(configuration, plugins_for(configuration).engines)

    async def start(_: object) -> Any:
        return ScriptedEngine()

    return Engines([Model("default", start), *(place.model for place in made._places[1:])])


@asynccontextmanager
async def running(
    configuration: Configuration, store: Store
) -> AsyncGenerator[tuple[Engines, DialogueManager]]:
    engines = pool(configuration)
    try:
        await engines.start()
        yield engines, dialogue_for(configuration, store, engines)
    finally:
        await engines.close()


async def completed(dialogue: DialogueManager, model: str, text: str) -> Reply:
    """Over the stateless interfaces."""
    reply = Reply("", ReplyState.QUEUED)
    async for reply in dialogue.complete(Completion([("user", text)], UserKey("web", "7"), model=model)):
        pass
    return reply


async def test_it_stands_beside_the_others_in_chats_lists_and_for_programs(
    tmp_path: Path, sqlite_store: Store
) -> None:
    configuration = read(tmp_path, "[models.parrot]\nengine = 'echo'\nbefore = 'You said: '\n")
    async with running(configuration, sqlite_store) as (engines, dialogue):
        assert list(dialogue.models()) == ["default", "parrot"]
        assert engines.stats().keys() == {"default"}, "it is started when it is asked"
        assert "parrot" in (await last(dialogue, "/model parrot", ANN)).notice
        shown = [reply.text for reply in await say(dialogue, "one two three", ANN)]
        assert shown[-1] == "You said: one two three"
        assert all(shown[-1].startswith(text) for text in shown)
        assert len({*shown} - {""}) > 1, "it grows"
        assert (await last(dialogue, "and then", ANN)).text == "You said: and then"
        (engine,) = _made
        request = engine.requests[-1]
        assert request.messages == [
            ("user", "one two three"),
            ("assistant", "You said: one two three"),
            ("user", "and then"),
        ]
        assert (request.user, request.max_tokens) == ("telegram:2", 512)
        thought = (await say(dialogue, "think", ANN))[-1]
        assert (thought.text, thought.thought) == ("said", "what to say")
        assert (await completed(dialogue, "parrot", "hello")).text == "You said: hello"
        assert (await completed(dialogue, "default", "hello")).text == "answer"
        assert "• parrot" in (await last(dialogue, "/model", ADMIN)).notice
        assert "parrot" in (await last(dialogue, "/status", ADMIN)).notice
        assert "another server" in (await last(dialogue, "/precision parrot int4", ADMIN)).notice
        assert b'glmbot_engine_alive{model="parrot"} 1.0' in dialogue.metrics()
        assert engines.stats()["parrot"].precision is Precision.SERVED
        assert [info.name for info in (await dialogue.overview()).models] == ["default", "parrot"]
    assert engine.closed


@pytest.mark.parametrize("how", ["raise", "nonsense", "leave", "cancel"])
async def test_what_it_does_wrong_while_it_answers_fails_that_answer_alone(
    tmp_path: Path, sqlite_store: Store, how: str
) -> None:
    configuration = read(tmp_path, "[models.parrot]\nengine = 'echo'\n")
    async with running(configuration, sqlite_store) as (_, dialogue):
        await last(dialogue, "/model parrot", ANN)
        beside = asyncio.create_task(completed(dialogue, "parrot", "hello"))
        failed = await last(dialogue, how, ANN)
        assert failed.state is ReplyState.FAILED
        with pytest.raises(EngineError):
            await completed(dialogue, "parrot", how)
        assert (await beside).text == "hello"
        assert (await last(dialogue, "hello", ANN)).text == "hello"
        assert (await last(dialogue, "hello", ADMIN)).text == "answer"


async def test_one_that_awaits_nothing_leaves_others_their_turn(tmp_path: Path, sqlite_store: Store) -> None:
    async with running(read(tmp_path, "[models.parrot]\nengine = 'echo'\n"), sqlite_store) as (_, dialogue):
        await last(dialogue, "/model parrot", ANN)
        busy = asyncio.create_task(say(dialogue, "busy", ANN))
        assert (await last(dialogue, "hello", ADMIN)).text == "answer"
        await last(dialogue, "/stop", ANN)
        assert (await busy)[-1].state is ReplyState.STOPPED
        assert (await last(dialogue, "half a character", ANN)).text == "half \ufffd"


def test_one_that_hangs_or_never_ends_is_ended_by_its_bounds_or_by_stop(tmp_path: Path) -> None:
    async def main() -> None:
        from glmbot.store.sqlite import SqliteStore

        store = SqliteStore(tmp_path / "s.sqlite3")
        await store.open()
        configuration = read(
            tmp_path, "[models.parrot]\nengine = 'echo'\nmax_answer_tokens = 16\nparallel = 1\n"
        )
        async with running(configuration, store) as (_, dialogue):
            await last(dialogue, "/model parrot", ANN)
            loop = asyncio.get_running_loop()
            began = loop.time()
            hung = asyncio.create_task(say(dialogue, "hang", ANN))
            waits = asyncio.create_task(completed(dialogue, "parrot", "hello"))
            late = (await hung)[-1]
            assert (late.text, late.finish_reason) == ("half", FinishReason.DEADLINE)
            assert 29 < loop.time() - began < 32
            assert (await waits).state.ended, "its turn came, or its own time was over, too"
            hung = asyncio.create_task(say(dialogue, "hang", ANN))
            await asyncio.sleep(3)
            await last(dialogue, "/stop", ANN)
            assert (await hung)[-1].state is ReplyState.STOPPED
            endless = await last(dialogue, "endless", ANN)
            assert endless.finish_reason == FinishReason.LENGTH
            assert len(endless.text) < 5000
            assert (await last(dialogue, "hello", ANN)).text == "hello"
        await store.close()

    run_in_virtual_time(main())


@pytest.mark.parametrize("how", ["raise", "nothing", "leave"])
@pytest.mark.parametrize("load", ["start", "first use"])
async def test_one_that_can_not_be_started_fails_only_who_asks_it(
    tmp_path: Path, sqlite_store: Store, how: str, load: str
) -> None:
    configuration = read(tmp_path, f"[models.parrot]\nengine = 'echo'\nbefore = '{how}'\nload = '{load}'\n")
    async with running(configuration, sqlite_store) as (_, dialogue):
        assert (await last(dialogue, "hello", ADMIN)).text == "answer"
        with pytest.raises(ModelUnavailable, match="parrot"):
            await completed(dialogue, "parrot", "hello")
        await last(dialogue, "/model parrot", ANN)
        assert (await last(dialogue, "hello", ANN)).state is ReplyState.FAILED
        assert (await last(dialogue, "hello", ADMIN)).text == "answer"
        found = await _plugged("parrot", configuration.named_models["parrot"], plugins_for(configuration))  # pyright: ignore[reportArgumentType]
        assert not found.ok
        assert "parrot" in found.words


def test_one_that_hangs_when_it_is_started_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        from glmbot.store.sqlite import SqliteStore

        store = SqliteStore(tmp_path / "s.sqlite3")
        await store.open()
        configuration = read(
            tmp_path,
            "[models.parrot]\nengine = 'echo'\nbefore = 'hang'\nload = 'start'\n[models.other]\nengine = 'echo'\n",
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with running(configuration, store) as (_, dialogue):
            assert (await last(dialogue, "hello", ANN)).text == "answer"
            assert (await completed(dialogue, "other", "hello")).text == "hello"
            assert loop.time() - began < 5
            kind = plugins_for(configuration).engines["echo"]
            with pytest.raises(ModelUnavailable, match="took too long"):
                await start_plugin_engine("parrot", configuration.named_models["parrot"], kind, 5.0)  # pyright: ignore[reportArgumentType]
        await store.close()

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("engine = 'ecko'\n", r"config\.toml, line 10: \[models\.a\] engine: no plug-in brings an engine 'ecko'; did you mean 'echo'\?"),
        ("engine = 5\n", r"line 10: \[models\.a\] engine: no plug-in brings an engine '5'"),
        ("engine = 'echo'\npieces = 0\n", r"line 11: \[models\.a\] pieces: must be at least 1 \(Into how many pieces"),
        ("engine = 'echo'\npiecs = 2\n", r"line 11: \[models\.a\] has no key 'piecs'; did you mean 'pieces'\?"),
        ("engine = 'echo'\npath = 'x'\n", r"line 11: \[models\.a\] has no key 'path'"),
        ("engine = 'echo'\nsettings = 3\n", r"line 11: \[models\.a\] has no key 'settings'"),
        ("engine = 'echo'\nparallel = 0\n", r"line 11: \[models\.a\] parallel: must be at least 1"),
        ("engine = 'echo'\nload = 'never'\n", r"line 11: \[models\.a\] load: "),
        ("engine = 'echo'\nbefore = 'odd'\n", r"line 9: \[models\.a\]: KeyError: 'odd'"),
    ],
)  # fmt: skip
def test_its_settings_are_refused_in_the_words_of_all_others(
    tmp_path: Path, section: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, f"[models.a]\n{section}")


def test_its_settings_come_from_file_and_environment_and_are_secret_where_they_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMBOT_MODELS__A__PIECES", "7")
    monkeypatch.setenv("GLMBOT_MODELS__A__VOICES", '["one", "two"]')
    monkeypatch.setenv("GLMBOT_MODELS__A__KEY", "hush-hush")
    monkeypatch.setenv("GLMBOT_MODELS__A__QUEUE_LIMIT", "3")
    configuration = read(tmp_path, "[models.a]\nengine = 'echo'\n")
    model: Any = configuration.named_models["a"]
    assert (model.engine, model.queue_limit, model.load) == ("echo", 3, "first use")
    assert (model.settings.pieces, model.settings.voices) == (7, ["one", "two"])
    assert model.settings.folder == tmp_path / "voices"
    assert "hush-hush" in secrets_in(configuration)
    monkeypatch.setenv("GLMBOT_MODELS__A__PIECES", "0")
    with pytest.raises(ConfigError, match="environment variable GLMBOT_MODELS__A__PIECES"):
        read(tmp_path, "[models.a]\nengine = 'echo'\n")


def test_plug_ins_register_once_for_a_start_and_once_for_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[str] = []

    def counted(host: Host) -> None:
        class Own(BaseModel):
            key: int = 1
            x: int = 0

        times.append(host.name)
        host.settings(Own)
        host.engine("echo", Own, lambda _: asyncio.sleep(0))  # pyright: ignore[reportArgumentType]

    installed(monkeypatch, parrot=counted)
    opened: list[str] = []
    from_file = Path.open

    def noted(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return from_file(path, *given, **named)

    monkeypatch.setattr(Path, "open", noted)
    first = read(tmp_path, "[models.a]\nengine = 'echo'\n[web]\nport = 0\n")
    complaints(first)
    engines_for(first, plugins_for(first).engines)
    assert times == ["parrot"]
    again = read_configuration(tmp_path / "config.toml")
    assert times == ["parrot"] * 2
    assert opened.count("config.toml") == 3, "written once, read twice"
    same = compared(first, again)
    assert (list(same.applied), list(same.waiting)) == ([], []), "another class, the same settings"
    changed = read(
        tmp_path, "[models.a]\nengine = 'echo'\nkey = 2\n[plugins.parrot]\nx = 1\n[web]\nport = 0\n"
    )
    assert list(compared(first, changed).waiting) == ["models", "plugins"]
    kept = compared(first, changed).now
    assert (kept.named_models, kept.plugins) == (first.named_models, first.plugins)


OFFER = Offer([ToolDescription("add", "Adds.", {"properties": {"q": {"type": "string"}}})])


class Calling(Echo):
    """Calls what it is offered, by calls or in words, then says what came of it."""

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Any, None]:
        self.requests.append(request)
        if request.messages[-1][1].startswith("<tool_response>"):
            yield "It is 2."
        elif request.tools:
            yield "So: "
            for _ in range(2):
                yield ToolCall("same", "add", '{"q": "1"}')
            yield ToolCall("other", "unknown")
        else:
            yield TaggedJson().written("add", {"q": "1"})


@pytest.mark.parametrize("takes", [False, True])
def test_it_calls_tools_by_calls_or_in_words(tmp_path: Path, takes: bool) -> None:
    async def main() -> None:
        configuration = read(tmp_path, "[models.a]\nengine = 'echo'\ncontext_length = 8000\n")
        kind = plugins_for(configuration).engines["echo"]
        made = Calling(Settings())
        made.takes_tools = made.takes_forms = takes  # type: ignore[attr-defined]
        section = configuration.named_models["a"]
        engine = await start_plugin_engine("a", section, replace(kind, start=lambda _: made))  # pyright: ignore[reportArgumentType]
        assert (Ability.TAUGHT_TOOLS in engine.abilities) is (Ability.FORMS in engine.abilities) is takes
        asked = Conversation((Text("1+1?"),), offer=OFFER)
        wish = Sampling(90, form=Form(FormKind.JSON) if takes else None)
        last = [each async for each in engine.generate(engine.prepare(asked, 4000), wish, user="ann")][-1]
        assert last.finish is FinishReason.TOOL_CALLS
        assert [call.name for call in last.calls] == ["add"] * (1 + takes)
        assert last.text == ('So: \n{"name": "unknown", "arguments": {}}' if takes else "")
        said = (ToolCall("1", "add", '{"q": "1"}'), ToolResult("1", "2"))
        prepared = engine.prepare(replace(asked, said=said), 4000)
        assert [each async for each in engine.generate(prepared, wish, user="ann")][-1].text == "It is 2."
        assert "<tools>" in made.requests[-1].messages[0][1]
        assert made.requests[-1].form == wish.form
        assert len(made.requests[-1].tools.get("messages", ())) == 3 * takes
        await engine.close()

    run_in_virtual_time(main())


def test_sampling_reaches_it(tmp_path: Path) -> None:
    async def main() -> None:
        configuration = read(tmp_path, "[models.a]\nengine = 'echo'\n")
        kind = plugins_for(configuration).engines["echo"]
        engine = await start_plugin_engine("a", configuration.named_models["a"], kind)  # pyright: ignore[reportArgumentType]
        prepared = engine.prepare(Conversation.of_words("hi", begun="Well", system="be brief"), 500)
        sampling = Sampling(9, 0.5, 0.6, 7, 1.1, 8, ("stop",))
        snapshots = [each async for each in engine.generate(prepared, sampling, user="ann")]
        assert snapshots[-1].text == "WellWell"
        (request,) = _made[0].requests
        assert request == ChatRequest(
            [("system", "be brief"), ("user", "hi"), ("assistant", "Well")],
            "ann",
            9,
            0.5,
            0.6,
            7,
            1.1,
            8,
            ("stop",),
        )
        await engine.close()

    run_in_virtual_time(main())
