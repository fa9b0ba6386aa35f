"""Real llama.cpp servers with the demo model behind the remote engine, and what can happen to them in mid-answer."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from chaos.environments import HOME, python_of, python_with
from chaos.faults import under_fault
from chaos.kills import Counts, Zygote
from conftest import REPOSITORY, free_port
from glmbot.models.demo import NAME, fetch_gguf
from glmbot.store.sqlite import SqliteStore

__all__ = ["model_server_faults"]

HERE = Path(__file__).parent
ENVIRONMENT = "venv"
PACKAGE = "xllamacpp==2026.10.11549"


class ModelServer:
    def __init__(self, gguf: Path) -> None:
        self.port = free_port()
        self._gguf = gguf
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(python_of(ENVIRONMENT)), str(HERE / "llama_server.py"), str(self._gguf), str(self.port),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            assert await self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


Fault = Callable[[ModelServer, ModelServer], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(work: Fault) -> Fault:
    FAULTS[work.__name__.replace("_", " ")] = work
    return work


@fault
async def one_of_two_killed_in_mid_answer(first: ModelServer, second: ModelServer) -> None:
    await first.kill()


@fault
async def one_killed_and_then_the_other_when_the_first_is_back(
    first: ModelServer, second: ModelServer
) -> None:
    await first.kill()
    await first.start()
    await asyncio.sleep(1)
    await second.kill()


@fault
async def both_killed_and_one_comes_back(first: ModelServer, second: ModelServer) -> None:
    await asyncio.gather(first.kill(), second.kill())
    await asyncio.sleep(3)
    await second.start()


@fault
async def one_says_nothing_any_more(first: ModelServer, second: ModelServer) -> None:
    first.send(signal.SIGSTOP)
    await asyncio.sleep(12)
    first.send(signal.SIGCONT)


async def model_server_faults(zygote: Zygote, only: str = "") -> Counts:
    counts = Counts()
    chosen = {name: work for name, work in FAULTS.items() if only in name}
    if not chosen:
        return counts
    gguf = await asyncio.to_thread(_install)
    tokenizer = REPOSITORY / ".glmbot" / "models" / NAME
    for name, work in chosen.items():
        servers = [ModelServer(gguf), ModelServer(gguf)]
        await asyncio.gather(*(server.start() for server in servers))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            path = folder / "store.sqlite3"
            section = (
                f"path = '{path}'\n[remote]\nservers = {[server.url for server in servers]}\n"
                f"tokenizer = '{tokenizer}'\nconnect_s = 2\nnext_token_s = 3\nfirst_token_s = 10\npatience_s = 60\n"
            )
            evidence = f"model server 127.0.0.1:{servers[0].port} failed"
            await under_fault(
                zygote,
                tokenizer,
                f"model server: {name}",
                section,
                SqliteStore(path),
                folder,
                partial(work, *servers),
                counts,
                evidence,
            )
        await asyncio.gather(*(server.kill() for server in servers))
    return counts


def _install() -> Path:
    """llama.cpp's server, and the model's file."""
    python_with(ENVIRONMENT, PACKAGE)
    return fetch_gguf(HOME)
