"""The Ray Serve application of deploy/ on the real Ray, with two replicas of which one is killed in mid-answer."""

from __future__ import annotations

import asyncio
import os
import signal
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from chaos.environments import python_with
from chaos.faults import under_fault
from chaos.kills import Counts, Zygote
from conftest import REPOSITORY, free_port
from glmbot.models.demo import NAME as DEMO
from glmbot.store.sqlite import SqliteStore

__all__ = ["ray_faults"]

HERE = Path(__file__).parent
PACKAGE = "ray[serve]==2.60.0"
NAME = "Ray Serve: one of two replicas killed in mid answer"
LONGEST_S = 420


async def ray_faults(zygote: Zygote, only: str = "") -> Counts:
    model = REPOSITORY / ".glmbot" / "models" / DEMO
    counts = Counts()
    if only not in NAME:
        return counts
    python = await asyncio.to_thread(python_with, "ray", PACKAGE)
    port = free_port()
    server = await _start(python, model, port)
    killed: list[int] = []

    async def kill_one() -> None:
        replica = next(
            each
            for each in psutil.Process(server.pid).children(recursive=True)
            if "ServeReplica" in " ".join(each.cmdline())
        )
        killed.append(replica.pid)
        replica.kill()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "store.sqlite3"
        section = (
            f"path = '{path}'\n[remote]\nservers = ['http://127.0.0.1:{port}/v1']\ntokenizer = '{model}'\n"
            "connect_s = 5\nnext_token_s = 5\nfirst_token_s = 20\npatience_s = 90\n"
        )
        store = SqliteStore(path)
        try:
            async with asyncio.timeout(LONGEST_S):
                await _ready(server)
                await under_fault(
                    zygote, model, NAME, section, store, folder, kill_one, counts, "model server 127.0.0.1"
                )
        except TimeoutError:
            counts.add(NAME, [f"it did not end in {LONGEST_S} s"])
        finally:
            await _stop(server)
    if not killed:
        counts.add(NAME, ["no replica was killed"])
    return counts


async def _start(python: Path, model: Path, port: int) -> asyncio.subprocess.Process:
    # Ray has an environment of its own; what the engine needs comes from ours, behind it.
    paths = [str(REPOSITORY), str(REPOSITORY / "adapters"), sysconfig.get_path("purelib")]
    return await asyncio.create_subprocess_exec(
        str(python), str(HERE / "ray_server.py"), str(model), str(port), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip


async def _ready(server: asyncio.subprocess.Process) -> None:
    assert server.stdout is not None
    while (line := await server.stdout.readline()).strip() != b"ready":
        assert line, "Ray Serve did not start"


async def _stop(server: asyncio.subprocess.Process) -> None:
    """Ray leaves on SIGINT, with all that it started; not where one of those hangs."""
    if server.returncode is not None:
        return
    started = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(server.wait(), 60)
    except TimeoutError:
        server.kill()
        await server.wait()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
