"""What can happen to Redis while people are being answered. Counted like the kills, by what people see afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaos.kills import Counts, Zygote, judge, say_all, settled, write_config
from chaos.people import LINES, Line, OneBotPeople, People, SlackPeople, TelegramPeople, asked_in
from conftest import until
from glmbot.store.base import Store
from glmbot.store.redis import RedisStore
from glmbot.store.sqlite import SqliteStore
from redis_server import Server, eventually

__all__ = ["FAULTS", "platform_faults", "redis_faults", "under_fault"]

_HOLDS_S = 3.0
_MEANWHILE = (Line(8, "meanwhile"), Line(7, "and then"), Line(9, "also here", in_group=True))


class Proxy:
    """A network between glmbot and Redis, with the network's faults."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.latency_s = 0.0
        self.silent = self.closed = False
        self.cut_after: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        self.cut()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        try:
            await asyncio.gather(self._pass(reader, to_writer, False), self._pass(to_reader, writer, True))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, to_writer):
                each.transport.abort()
                self._writers.discard(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        while data := await reader.read(65536):
            while self.silent:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if answers and self.cut_after is not None:
                self.cut_after -= 1
                if self.cut_after <= 0:
                    self.cut_after = 4
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


async def for_a_while(server: Server, on: str, off: str) -> None:
    """One command, and its opposite some seconds later."""
    await server.ask(*on.split())
    await asyncio.sleep(_HOLDS_S)
    await server.ask(*off.split())


async def away(server: Server, seconds: float) -> None:
    await server.kill()
    await asyncio.sleep(seconds)
    await server.start()


async def frozen(server: Server, seconds: float) -> None:
    server.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    server.send(signal.SIGCONT)


Fault = Callable[[Server, Proxy], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(work: Fault) -> Fault:
    FAULTS[work.__name__.replace("_", " ").strip()] = work
    return work


@fault
async def restart_in_good_order(server: Server, _: Proxy) -> None:
    with suppress(RedisError, OSError):
        await server.ask("SHUTDOWN")
    await server.ended()
    await asyncio.sleep(1)
    await server.start()


@fault
async def killed_and_started_again(server: Server, _: Proxy) -> None:
    await away(server, 1)


@fault
async def away_for_longer_than_a_claim(server: Server, _: Proxy) -> None:
    await away(server, 9)


@fault
async def frozen_for_a_while(server: Server, _: Proxy) -> None:
    await frozen(server, _HOLDS_S)


@fault
async def frozen_for_longer_than_a_claim(server: Server, _: Proxy) -> None:
    await frozen(server, 9)


@fault
async def all_connections_closed(server: Server, _: Proxy) -> None:
    await server.ask("CLIENT", "KILL", "TYPE", "normal")


@fault
async def connections_closed_again_and_again(server: Server, _: Proxy) -> None:
    for _number in range(12):
        await server.ask("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.2)


@fault
async def all_commands_held(server: Server, _: Proxy) -> None:
    await server.ask("CLIENT", "PAUSE", "3000", "ALL")


@fault
async def writes_held(server: Server, _: Proxy) -> None:
    await server.ask("CLIENT", "PAUSE", "3000", "WRITE")


@fault
async def memory_full(server: Server, _: Proxy) -> None:
    await for_a_while(server, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0")


@fault
async def scripts_forgotten(server: Server, _: Proxy) -> None:
    await server.ask("SCRIPT", "FLUSH")


@fault
async def read_only_replica(server: Server, _: Proxy) -> None:
    await for_a_while(server, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")


@fault
async def replica_that_answers_nothing(server: Server, _: Proxy) -> None:
    await server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    await for_a_while(server, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")


@fault
async def too_few_replicas(server: Server, _: Proxy) -> None:
    await for_a_while(server, "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0")


@fault
async def consumer_group_destroyed(server: Server, _: Proxy) -> None:
    await server.ask("XGROUP", "DESTROY", "glmbot:work:telegram", "glmbot")


@fault
async def work_stream_deleted(server: Server, _: Proxy) -> None:
    await server.ask("DEL", "glmbot:work:telegram", "glmbot:signals")


@fault
async def consumers_deleted(server: Server, _: Proxy) -> None:
    for consumer in await server.ask("XINFO", "CONSUMERS", "glmbot:work:telegram", "glmbot"):
        name = consumer["name"] if isinstance(consumer, dict) else consumer[1]
        await server.ask("XGROUP", "DELCONSUMER", "glmbot:work:telegram", "glmbot", name)


@fault
async def a_slow_command_of_somebody_else(server: Server, _: Proxy) -> None:
    await server.ask("DEBUG", "SLEEP", "3")


@fault
async def a_script_that_does_not_end(server: Server, _: Proxy) -> None:
    endless = asyncio.ensure_future(server.ask("EVAL", "while true do end", "0"))
    await asyncio.sleep(_HOLDS_S)
    await server.ask("SCRIPT", "KILL")
    await asyncio.gather(endless, return_exceptions=True)


@fault
async def password_changed_for_a_while(server: Server, _: Proxy) -> None:
    admin = Redis(port=server.port)
    await admin.config_set("requirepass", "secret")
    await admin.client_kill_filter(_type="normal", skipme=True)
    await asyncio.sleep(_HOLDS_S)
    admin = Redis(port=server.port, password="secret")
    await admin.config_set("requirepass", "")
    await admin.aclose()


@fault
async def may_not_write_for_a_while(server: Server, _: Proxy) -> None:
    await server.ask("ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all")
    admin = Redis(port=server.port, username="admin", password="x")
    await admin.execute_command("ACL", "SETUSER", "default", "-@write", "-@scripting")
    await asyncio.sleep(_HOLDS_S)
    await admin.execute_command("ACL", "SETUSER", "default", "+@all")
    await admin.aclose()


@fault
async def too_many_clients(server: Server, _: Proxy) -> None:
    admin = Redis(port=server.port, single_connection_client=True)
    await admin.execute_command("CONFIG", "SET", "maxclients", "1")
    await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(_HOLDS_S)
    await admin.execute_command("CONFIG", "SET", "maxclients", "10000")
    await admin.aclose()


@fault
async def network_cut_once(_: Server, proxy: Proxy) -> None:
    proxy.cut()


@fault
async def network_gone_for_a_while(_: Server, proxy: Proxy) -> None:
    proxy.closed = True
    proxy.cut()
    await asyncio.sleep(_HOLDS_S)
    proxy.closed = False


@fault
async def network_that_swallows_everything(_: Server, proxy: Proxy) -> None:
    proxy.silent = True
    await asyncio.sleep(8)
    proxy.silent = False


@fault
async def slow_network(_: Server, proxy: Proxy) -> None:
    proxy.latency_s = 0.15
    await asyncio.sleep(2 * _HOLDS_S)
    proxy.latency_s = 0.0


@fault
async def answers_torn_in_the_middle(_: Server, proxy: Proxy) -> None:
    proxy.cut_after = 3
    await asyncio.sleep(_HOLDS_S)
    proxy.cut_after = None


async def redis_faults(zygote: Zygote, model: Path, only: str = "") -> Counts:
    counts = Counts()
    for name, work in FAULTS.items():
        if only not in name:
            continue
        async with _alone() as (server, proxy, folder):
            trouble = partial(work, server, proxy)
            section = f"kind = 'redis'\nurl = 'redis://127.0.0.1:{proxy.port}/0'\njournal_path = '{folder}/journal.sqlite3'\n"
            store = RedisStore(server.url)
            await under_fault(zygote, model, f"redis: {name}", section, store, folder, trouble, counts)
    return counts


@asynccontextmanager
async def _alone() -> AsyncGenerator[tuple[Server, Proxy, Path]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(folder)
        await server.start()
        stack.push_async_callback(server.stop)
        proxy = Proxy(server.port)
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        yield server, proxy, folder


async def under_fault(
    zygote: Zygote, model: Path, name: str, section: str, store: Store, folder: Path,
    work: Callable[[], Awaitable[None]], counts: Counts, evidence: str = "", people: People | None = None,
) -> None:  # fmt: skip
    """People talk, `work` does its harm in the middle of an answer, people go on; then all is judged.

    `section` is the rest of the configuration from [store] on; `store` looks into the same store, past the fault.
    `evidence` stands in the log when the fault was met. `people`: on Telegram, where none are given.
    """
    people = people or TelegramPeople()
    await people.start()
    config = write_config(folder, model, people, section)
    process = await zygote.begin(config, "slow", "-", 10)
    await say_all(people, LINES)
    first = people.key(LINES[0]).chat
    await until(lambda: len(people.texts(first)) >= 2)
    trouble = asyncio.ensure_future(work())
    await asyncio.sleep(0.3)
    await say_all(people, _MEANWHILE)
    asked = asked_in(people, [*LINES, *_MEANWHILE])
    wrong: list[str] = []
    try:
        await trouble
    except Exception as error:
        wrong.append(f"the fault itself failed: {type(error).__name__}: {error}")
    await eventually(store.open)
    if not await settled(people, store, asked):
        wrong.append("not settled: " + (folder / "log.txt").read_text()[-3000:])
    wrong += await judge(people, store, asked, counts)
    if evidence not in (folder / "log.txt").read_text():
        wrong.append(f"the fault was not met: {evidence!r} is not in the log")
    await store.close()
    os.kill(process, signal.SIGTERM)
    if (code := await zygote.ended(30)) != 0:
        wrong.append(f"ended with {code}: " + (folder / "log.txt").read_text()[-1500:])
        if code is None:
            os.kill(process, signal.SIGKILL)
            await zygote.ended(20)
    counts.add(name, wrong)
    await people.stop()


async def platform_faults(zygote: Zygote, model: Path, only: str = "") -> Counts:
    """What can happen to the connection to a platform."""
    counts = Counts()
    for kind in (SlackPeople, OneBotPeople):
        for trouble in kind().troubles:
            name = f"{kind.platform}: {trouble}"
            if only not in name:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                folder, people = Path(scratch), kind()
                path = folder / "store.sqlite3"
                work = people.troubles[trouble]
                await under_fault(
                    zygote, model, name, f"path = '{path}'\n", SqliteStore(path), folder, work, counts,
                    people=people,
                )  # fmt: skip
    return counts
