"""Fixtures that many tests share: models, engines, stores, whole bots."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from torch import Tensor

from glmbot.config.names import installed_platforms
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager, DialogueSettings
from glmbot.engine.base import Engine, Precision, Sampling, TokenEngine
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Chunk
from glmbot.logs import RECENT_ERRORS
from glmbot.models.demo import NAME, is_complete
from glmbot.named_bot import spoken_as
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from tiny_model import write_tiny_model

pytest_plugins = ["secret_scan"]

settings.register_profile(
    "glmbot",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("glmbot")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

REPOSITORY = Path(__file__).parent.parent
_STEP_S = 0.01
# Before a command: the kernel ends it with the process that started it, however that ends.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def pytest_collection_finish() -> None:
    """What libraries and the list of tests hold stays until the end: no search for garbage looks at it again."""
    gc.collect()
    gc.freeze()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(holds: Callable[[], object], timeout: float = 90.0) -> None:
    """Wait for real work (sockets, the model thread) to make `holds()` true."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {timeout} s")
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _nothing_logged_before() -> None:
    """The console shows the last errors of the whole process, those of another test included."""
    RECENT_ERRORS.clear()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def demo_model() -> Path:
    folder = REPOSITORY / ".glmbot" / "models" / NAME
    if not is_complete(folder):
        pytest.skip("the demo model is not here; `glmbot pull` gets it")
    return folder


@pytest.fixture
def engine_settings(tiny_model: Path) -> LocalEngineSettings:
    """One thread: on a busy machine the threads of one step wait for each other far longer than they compute."""
    return LocalEngineSettings(tiny_model, precision=Precision.FP32, cache_tokens=16384, threads=1)


@pytest.fixture
async def engine(engine_settings: LocalEngineSettings) -> AsyncGenerator[LocalEngine]:
    started = await LocalEngine.start(engine_settings)
    yield started
    await started.close()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model takes its time, as a real one does, so that there is a stream to be seen."""
    step = ModelRunner.step

    def slow(runner: ModelRunner, chunks: list[Chunk]) -> Tensor:
        time.sleep(_STEP_S)
        return step(runner, chunks)

    monkeypatch.setattr(ModelRunner, "step", slow)


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncGenerator[Store]:
    store = SqliteStore(tmp_path / "store.sqlite3")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(scope="session")
def redis_url() -> Generator[str]:
    """A real Redis server of this test run's own, on a free port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian package redis-server), so Redis is not tested")
    port = free_port()
    command = [program, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    server = subprocess.Popen([*DIES_WITH_US, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert server.poll() is None, "redis-server did not start"
            assert time.monotonic() < deadline, "redis-server did not answer"
            time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait()


@pytest.fixture(params=["sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    """Every test that takes this runs against both stores."""
    made = made_store(request, tmp_path)
    await made.open()
    yield made
    await made.close()


def made_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    if request.param == "sqlite":
        return SqliteStore(folder / "both.sqlite3")
    url: str = request.getfixturevalue(f"{request.param}_url")
    return RedisStore(url, prefix=f"test-{time.time_ns()}")


GREEDY = Sampling(max_tokens=32, temperature=0)


def make_dialogue(
    engine: Engine | TokenEngine, store: Store, *, access: Access | None = None, **changes: object
) -> DialogueManager:
    """A dialogue that is open to Telegram and Discord, answers greedily, and speaks English. speaks_as: the name of
    the bot that it is for."""
    sampling = changes.pop("sampling", GREEDY)
    parts = {
        name: changes.pop(name)
        for name in ("moderation", "reload", "clock", "tries", "claim_s", "plugins")
        if name in changes
    }
    speaks_as = str(changes.pop("speaks_as", "telegram"))
    base = DialogueSettings(
        sampling=sampling,  # pyright: ignore[reportArgumentType]
        language="en",
        platforms=installed_platforms(),
    )
    dialogue = DialogueManager(
        store=store,
        engine=engine,
        access=access or Access(open_platforms={"telegram", "discord"}),
        settings=replace(base, **changes),  # pyright: ignore[reportArgumentType]
        **parts,  # pyright: ignore[reportArgumentType]
    )
    return spoken_as(speaks_as, dialogue)
