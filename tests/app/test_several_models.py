"""Two models of this machine and a remote one in one process, from the configuration to three people's chats."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dialogue.scripted_engine import ScriptedEngine
from dialogue.test_manager import ADMIN, ANN, last, message, say
from glmbot.app import dialogue_for
from glmbot.completions import Completion
from glmbot.config.configuration import Configuration
from glmbot.config.load import load_configuration
from glmbot.dialogue.manager import DialogueManager
from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine
from glmbot.engine.pool import Engines
from glmbot.engine.templated import TemplatedEngine
from glmbot.engines import engines_for
from glmbot.errors import ModelTooLarge
from glmbot.i18n import text
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind, ReplyState
from glmbot.store.base import Store
from platforms.openai_server import OpenAIServer
from tiny_model import write_tiny_model

BOB, CID = UserKey("telegram", "5"), UserKey("telegram", "6")
GROUP = ConversationKey("telegram", "-100")
_BIG = "precision = 'fp32'\ncache_tokens = 4096\nthreads = 1\nmax_answer_tokens = 24\ncontext_length = 1024\n"


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "other", seed=2)


def read(folder: Path, tiny: Path, other: Path, url: str, models: str = "", gb: float = 0.0) -> Configuration:
    file = folder / "config.toml"
    file.write_text(
        f"[model]\npath = '{tiny}'\n{_BIG}"
        f"[models]\npeople_choose = true\nmemory_gb = {gb}\n{models}"
        f"[models.second]\npath = '{other}'\n{_BIG}"
        f"[models.far]\nservers = ['{url}']\ninterface = 'chat'\nmodel = 'glm-4'\ncontext_length = 1024\n"
        "[sampling]\ntemperature = 0.0\n"
        "[access]\nadmins = ['telegram:1']\nopen_platforms = ['telegram']\n"
        "[dialogue]\nlanguage = 'en'\n"
    )
    return load_configuration(file, {}, {})


@pytest.fixture
async def server() -> AsyncGenerator[OpenAIServer]:
    """Whose chats repeat what was asked."""
    made = OpenAIServer(ScriptedEngine())
    await made.start()
    yield made
    await made.stop()


@asynccontextmanager
async def running(
    configuration: Configuration, store: Store
) -> AsyncGenerator[tuple[Engines, DialogueManager]]:
    engines = engines_for(configuration)
    try:
        await engines.start()
        yield engines, dialogue_for(configuration, store, engines)
    finally:
        await engines.close()


def _local(engines: Engines, name: str) -> LocalEngine:
    engine = engines.engine(name)
    assert isinstance(engine, TemplatedEngine)
    assert isinstance(engine.tokens, LocalEngine)
    return engine.tokens


async def test_two_local_models_and_a_remote_one_serve_three_chats_at_once(
    tmp_path: Path, tiny_model: Path, other_model: Path, server: OpenAIServer, sqlite_store: Store
) -> None:
    configuration = read(tmp_path, tiny_model, other_model, server.url)
    async with running(configuration, sqlite_store) as (engines, dialogue):
        assert (engines.default, list(engines.names)) == ("tiny", ["tiny", "second", "far"])
        assert engines.stats().keys() == {"tiny", "far"}, "second is loaded when it is asked"
        assert "second" in (await last(dialogue, "/model second", BOB)).notice
        assert "far" in (await last(dialogue, "/model FAR", CID)).notice
        ann, bob, cid = await asyncio.gather(
            say(dialogue, "one two three", ANN),
            say(dialogue, "one two three", BOB),
            say(dialogue, "one two three", CID),
        )
        assert any(reply.notice == text("en", "model.loading", model="second") for reply in bob)
        assert not any("loaded" in reply.notice for reply in [*ann, *cid])
        assert cid[-1].text == "one two three"
        assert len({ann[-1].text, bob[-1].text, cid[-1].text}) == 3
        assert engines.stats()["tiny"].requests_finished == 1
        assert engines.stats()["second"].requests_finished == 1
        # In mid-conversation: the other model is told what the first one said.
        assert "far" in (await last(dialogue, "/model far", ANN)).notice
        assert (await last(dialogue, "and now you", ANN)).text == "and now you"
        assert server.chats[-1]["messages"][:2] == [
            {"role": "user", "content": "one two three"},
            {"role": "assistant", "content": ann[-1].text},
        ]
        await last(dialogue, "/model default", ANN)
        assert (await last(dialogue, "hello", ANN)).state is ReplyState.FINAL
        assert engines.stats()["tiny"].requests_finished == 2
        # A precision concerns one model, by its name or as the one that answers here.
        assert "fp32" in (await last(dialogue, "/precision second", ADMIN)).notice
        assert "→ int8" in (await last(dialogue, "/precision second int8", ADMIN)).notice
        now = {name: stats.precision for name, stats in engines.stats().items()}
        assert now == {"tiny": Precision.FP32, "second": Precision.INT8, "far": Precision.SERVED}
        assert "another server" in (await last(dialogue, "/precision far int4", ADMIN)).notice
        listed = (await last(dialogue, "/model", BOB)).notice
        assert listed.startswith("second answers here")
        assert "• second: int8" in listed
        status = (await last(dialogue, "/status", BOB)).notice
        assert status.startswith("Model second, precision int8")
        assert "tiny: fp32" in status
        assert b'glmbot_engine_alive{model="second"} 1.0' in dialogue.metrics()
        assert [info.name for info in (await dialogue.overview()).models] == ["tiny", "second", "far"]


async def test_a_group_has_the_model_that_an_administrator_chose(
    tmp_path: Path, tiny_model: Path, other_model: Path, server: OpenAIServer, sqlite_store: Store
) -> None:
    configuration = read(tmp_path, tiny_model, other_model, server.url)
    async with running(configuration, sqlite_store) as (_, dialogue):
        there = {"conversation": GROUP, "chat_kind": ChatKind.GROUP}
        assert "for administrators" in (await last(dialogue, "/model far", ANN, **there)).notice
        assert "no model nowhere" in (await last(dialogue, "/model nowhere", ADMIN, **there)).notice
        await last(dialogue, "/model far", ADMIN, **there)
        assert (await last(dialogue, "one two", ANN, **there)).text == "one two"
        assert (await last(dialogue, "one two", ANN)).text != "one two", "her own chat is another"
        # What is chosen and no longer configured falls back, and that is said.
        await sqlite_store.set_setting(
            message("x", conversation=GROUP, chat_kind=ChatKind.GROUP).chat, "model", "former"
        )
        fallen = await last(dialogue, "one two", ANN, **there)
        assert fallen.text != "one two"
        assert "former" in fallen.notice
        assert "tiny" in fallen.notice


async def test_a_program_chooses_by_the_name_and_any_other_name_is_the_default(
    tmp_path: Path, tiny_model: Path, other_model: Path, server: OpenAIServer, sqlite_store: Store
) -> None:
    async with running(read(tmp_path, tiny_model, other_model, server.url), sqlite_store) as (_, dialogue):
        said: dict[str, str] = {}
        for model in ("far", "tiny", "gpt-4", ""):
            request = Completion([("user", "one two")], UserKey("web", "7"), model=model, max_tokens=8)
            async for reply in dialogue.complete(request):
                said[model] = reply.text
        assert said["far"] == "one two"
        assert said["tiny"] == said["gpt-4"] == said[""] != "one two"
        assert list(dialogue.models()) == ["tiny", "second", "far"]


async def test_the_memory_is_kept_to_and_what_is_unloaded_is_gone(
    tmp_path: Path, tiny_model: Path, other_model: Path, server: OpenAIServer, sqlite_store: Store
) -> None:
    one = read(tmp_path, tiny_model, other_model, server.url)
    async with running(one, sqlite_store) as (engines, _):
        size = engines.bytes
        stats = engines.stats()["tiny"]
        assert size == stats.weight_bytes + stats.cache_bytes
        assert stats.cache_bytes > 4096 * 2 * 2 * 2 * 16 * 4
    gb = 1.5 * size / 1e9
    async with running(read(tmp_path, tiny_model, other_model, server.url, gb=gb), sqlite_store) as (
        engines,
        dialogue,
    ):
        gone = weakref.ref(_local(engines, "tiny")._runner.model.module)
        await last(dialogue, "/model second", BOB)
        assert (await last(dialogue, "hello", BOB)).text
        assert engines.stats().keys() == {"second", "far"}
        assert engines.bytes <= gb * 1e9
        gc.collect()
        assert gone() is None, "nothing of it is held"
        assert dialogue.health().ok
        assert (await last(dialogue, "hello", ANN)).text
        assert engines.stats().keys() == {"tiny", "far"}
    gb = 0.9 * size / 1e9
    tight = read(tmp_path, tiny_model, other_model, server.url, gb=gb)
    with pytest.raises(ModelTooLarge, match="tiny"):
        async with running(tight, sqlite_store):
            pass


async def test_what_does_not_fit_is_refused_in_both_languages_when_it_is_chosen(
    tmp_path: Path, tiny_model: Path, other_model: Path, server: OpenAIServer, sqlite_store: Store
) -> None:
    file = tmp_path / "config.toml"
    read(tmp_path, tiny_model, other_model, server.url, gb=0.05)
    words = file.read_text().replace(
        f"path = '{other_model}'\n{_BIG}",
        f"path = '{other_model}'\ncache_tokens = 400000\nprecision = 'fp32'\n",
    )
    file.write_text(words.replace("language = 'en'", "language = 'auto'"))
    async with running(load_configuration(file, {}, {}), sqlite_store) as (engines, dialogue):
        for language, part in (("en", "needs"), ("zh", "内存")):
            refused = await last(dialogue, "/model second", BOB, language=language)
            assert refused.state is ReplyState.FAILED
            assert "second" in refused.notice
            assert "memory_gb" in refused.notice
            assert part in refused.notice
        assert (await last(dialogue, "hello", BOB)).text
        assert engines.stats().keys() == {"tiny", "far"}
