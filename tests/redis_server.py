"""Redis servers of a test's own, which can be killed and started again: alone, behind Sentinel, as a cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from conftest import DIES_WITH_US, free_port
from glmbot.errors import StoreUnavailable

__all__ = ["Cluster", "Server", "Watched", "eventually", "serving"]

_SERVICE = "glm"


class Server:
    """One redis-server of our own, which survives being killed by its append-only file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--dir", str(self.folder), "--save", "", "--appendonly", "yes",
            "--enable-debug-command", "yes", "--busy-reply-threshold", "100", *self.options,
        ]  # fmt: skip

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *DIES_WITH_US, *self.command, stdout=asyncio.subprocess.DEVNULL
        )
        await eventually(lambda: self.ask("PING"))

    async def ask(self, *command: str, within_s: float = 10) -> Any:
        once = Retry(NoBackoff(), 0)
        client = Redis(port=self.port, decode_responses=True, socket_timeout=within_s, retry=once)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def ended(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        if self._process is not None and self.runs:
            self._process.kill()
            await self._process.wait()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()


class _Sentinel(Server):
    def __init__(self, folder: Path, master: Server) -> None:
        super().__init__(folder)
        self._master = master

    @property
    def command(self) -> list[str]:
        return ["redis-server", str(self.folder / "sentinel.conf"), "--sentinel"]

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        # Sentinel writes what it learns into its own configuration.
        if not (file := self.folder / "sentinel.conf").exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {_SERVICE} 127.0.0.1 {self._master.port} 2\n"
                f"sentinel down-after-milliseconds {_SERVICE} 1000\nsentinel failover-timeout {_SERVICE} 4000\n"
            )
        await super().start()


class Watched:
    """A master and two replicas, watched by three sentinels, set up as docs/operator.md advises."""

    def __init__(self, folder: Path) -> None:
        careful = ("--min-replicas-to-write", "1")
        self.first = Server(folder / "first", *careful)
        follows = ("--replicaof", "127.0.0.1", str(self.first.port))
        self.replicas = [Server(folder / f"replica-{number}", *careful, *follows) for number in range(2)]
        self.sentinels = [_Sentinel(folder / f"sentinel-{number}", self.first) for number in range(3)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{_SERVICE}"

    async def start(self) -> None:
        await self.first.start()
        for replica in self.replicas:
            await replica.start()
            await _holds(lambda replica=replica: _field(replica, "master_link_status", "up"))
        for sentinel in self.sentinels:
            await sentinel.start()
        for sentinel in self.sentinels:
            # They find each other, and the replicas, through the master.
            await _holds(lambda sentinel=sentinel: _sees(sentinel, "num-other-sentinels", "2"))
            await _holds(lambda sentinel=sentinel: _sees(sentinel, "num-slaves", "2"))

    async def promoted(self) -> None:
        """Wait until a replica is the master."""

        async def one_is() -> bool:
            return any([await _field(replica, "role", "master") for replica in self.replicas if replica.runs])

        await _holds(one_is)

    async def stop(self) -> None:
        for server in (*self.sentinels, *self.replicas, self.first):
            await server.stop()


class Cluster:
    """Three masters with a replica each."""

    def __init__(self, folder: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-port")
        self.servers = [Server(folder / f"node-{number}", *options, str(free_port())) for number in range(6)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{each.port}' for each in self.servers)}"

    async def start(self) -> None:
        for server in self.servers:
            await server.start()
        addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        await _run("redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes")
        for server in self.servers:
            await _holds(lambda server=server: _says(server, "cluster_state:ok"))
        for server in self.servers[3:]:
            await _holds(lambda server=server: _field(server, "master_link_status", "up"))
        await _holds(self._all_know_their_replica)

    async def slot_of(self, key: str) -> int:
        return int(await self.servers[0].ask("CLUSTER", "KEYSLOT", key))

    async def master_of(self, slot: int) -> Server:
        return next(nodes[0] for first, last, nodes in await self._shards() if first <= slot <= last)

    async def replica_of(self, slot: int) -> Server:
        return next(nodes[1] for first, last, nodes in await self._shards() if first <= slot <= last)

    async def another_master(self, slot: int) -> Server:
        """One that does not have this slot."""
        master = await self.master_of(slot)
        return next(nodes[0] for _, _, nodes in await self._shards() if nodes[0] is not master)

    async def moved_from(self, slot: int, master: Server) -> None:
        """Wait until another one has it."""

        async def elsewhere() -> bool:
            return await self.master_of(slot) is not master

        await _holds(elsewhere)

    async def move(self, slot: int, to: Server) -> None:
        """Move one slot with its keys while it is in use, as redis-cli's reshard does.

        https://redis.io/docs/latest/commands/cluster-setslot/
        """
        source = await self.master_of(slot)
        ids = {server: str(await server.ask("CLUSTER", "MYID")) for server in (source, to)}
        await to.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", ids[source])
        await source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", ids[to])
        while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "1"):
            await source.ask("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)
            # What asks for several keys of a slot that is half here and half there is told to try again.
            await asyncio.sleep(0.1)
        for server in (to, source):
            await server.ask("CLUSTER", "SETSLOT", str(slot), "NODE", ids[to])

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop()

    async def _shards(self) -> list[tuple[int, int, list[Server]]]:
        """First slot, last slot, and who has them, the master first."""
        by_port = {server.port: server for server in self.servers}
        for server in self.servers:
            with suppress(RedisError, OSError):
                found = await server.ask("CLUSTER", "SLOTS", within_s=0.5)
                return [(first, last, [by_port[node[1]] for node in nodes]) for first, last, *nodes in found]
        raise RedisError("no server of the cluster answers")

    async def _all_know_their_replica(self) -> bool:
        shards = await self._shards()
        return len(shards) == 3 and all(len(nodes) == 2 for _, _, nodes in shards)


_Group = TypeVar("_Group", bound=Watched | Cluster)


@asynccontextmanager
async def serving(group: _Group) -> AsyncGenerator[_Group]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(group.stop)
        await group.start()
        yield group


async def eventually(work: Callable[[], Awaitable[Any]], within_s: float = 120) -> Any:
    """The result of `work` as soon as it has one."""
    async with asyncio.timeout(within_s):
        while True:
            with suppress(RedisError, OSError, StoreUnavailable):
                return await work()
            await asyncio.sleep(0.05)


async def _holds(condition: Callable[[], Awaitable[bool]]) -> None:
    async def checked() -> None:
        if not await condition():
            raise RedisError("not yet")

    await eventually(checked)


async def _field(server: Server, name: str, value: str) -> bool:
    return (await server.ask("INFO", "replication")).get(name) == value


async def _sees(sentinel: Server, name: str, value: str) -> bool:
    client = Redis(port=sentinel.port, decode_responses=True)
    try:
        seen: Any = await client.sentinel_master(_SERVICE)
        return str(seen.get(name)) == value
    finally:
        await client.aclose()


async def _says(server: Server, words: str) -> bool:
    return words in str(await server.ask("CLUSTER", "INFO"))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[:3]}: {output.decode()[-1000:]}")
