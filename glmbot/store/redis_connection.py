"""How a Redis server is reached: alone, behind Sentinel or as a cluster; and what its refusals mean.

    redis://  rediss:// (TLS)  unix://
    redis+sentinel://[user:password@]host:port,host:port/service[/database]    also rediss+sentinel://
    redis+cluster://[user:password@]host:port,host:port                        also rediss+cluster://

TLS options stand behind a question mark, as redis-py names them: ?ssl_ca_certs=/etc/ssl/redis-ca.pem
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import Sentinel

from glmbot.errors import StoreError, StoreUnavailable

__all__ = ["RedisConnection"]

_T = TypeVar("_T")


class _NewServer(exceptions.RedisError):
    """No ConnectionError, after which the client would try again by itself and go on."""


# What passes by itself or by the operator's help, while the stored data is as it was.
_PASSING = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.ClusterError,
    exceptions.ConnectionError,
    exceptions.NoPermissionError,
    # The script was loaded into the server that was the master a moment ago.
    exceptions.NoScriptError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.RedisClusterException,
    exceptions.TimeoutError,
    exceptions.TryAgainError,
    _NewServer,
    OSError,
)
# https://redis.io/docs/latest/develop/reference/protocol-spec/: the first word of an error is its kind.
_PASSING_KINDS = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "UNBLOCKED")
# Questions under way at once; more wait. The client has as many connections and some to spare, and would refuse
# one more as if the server were away.
_AT_ONCE = 80
_CONNECTIONS = 100
_SCRIPTS = (
    "accept",
    "adopt",
    "anchor",
    "blob_disown",
    "blob_drop",
    "blob_list",
    "blob_person",
    "blob_place",
    "blob_refer",
    "blob_share",
    "blob_unlist",
    "blob_unrefer",
    "bring",
    "claim",
    "copy",
    "count",
    "delivered",
    "finish",
    "join",
    "last_turns",
    "lead",
    "lease",
    "mark",
    "note",
    "place",
    "release",
    "remove",
    "rename",
    "replay",
    "reset",
    "set_aside",
)


class RedisConnection:
    """A client, the store's scripts, and errors as the store's own. `name` says where it is, without secrets.

    `fails_over`: whether sentinels may name another server to be written to.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Raises ValueError for an address that is none."""
        self._run_id = ""
        self._room = asyncio.Semaphore(_AT_ONCE)
        self.admits: Callable[[str], bool] = lambda _: True
        """Whether a server, by the name that `server` has for it, may be asked yet: a question that would be the
        first one to a server that must be told something before is refused as one to a server that is away."""
        self.client: Any
        self.client, self.name = _connect(url, timeout_s, self._connected)
        self.fails_over = "+sentinel:" in url
        folder = files("glmbot.store") / "scripts"
        self._scripts: dict[str, Any] = {
            name: self.client.register_script((folder / f"{name}.lua").read_text("utf-8"))
            for name in _SCRIPTS
        }

    @property
    def server(self) -> str:
        """Changes with the server that is written to and with each start of it; empty where INFO is not allowed.

        Of a cluster it names the masters.
        """
        if isinstance(self.client, RedisCluster):
            return " ".join(sorted(node.name for node in self.client.get_primaries()))
        return self._run_id

    async def run(self, script: str, keys: Sequence[str], *arguments: str) -> Any:
        """Raises StoreError."""
        return await self.ask(self._scripts[script](keys=keys, args=arguments))

    async def ask(self, answer: Awaitable[_T]) -> _T:
        """Raises StoreError, StoreUnavailable where it will pass."""
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        asked = False
        try:
            async with self._room:
                asked = True
                return await answer
        except _PASSING as error:
            raise StoreUnavailable(f"{self.name}: {error}") from error
        except exceptions.RedisError as error:
            # The client puts the command of a pipeline that failed before what the server said.
            said = str(error).rpartition("caused error: ('")[2]
            passing = said.partition(" ")[0] in _PASSING_KINDS or "-OOM" in said
            raise (StoreUnavailable if passing else StoreError)(f"{self.name}: {error}") from error
        finally:
            if not asked and isinstance(answer, Coroutine):
                answer.close()
            if task and task.cancelling() > cancelled_before:
                # The client writes within asyncio.wait_for, which before Python 3.12 loses a cancellation that
                # comes in the moment when the write is done: https://bugs.python.org/issue42130
                raise asyncio.CancelledError

    async def each(self, found: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        """What an iterator over something large finds, a page at a time. Raises StoreError as `ask`."""
        while True:
            try:
                item = await self.ask(anext(found))
            except StopAsyncIteration:
                return
            yield item

    async def close(self) -> None:
        await self.client.aclose()

    async def _connected(self, connection: Any) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            info = str(await connection.read_response())
        except exceptions.NoPermissionError:
            return
        self._run_id = next((line for line in info.splitlines() if line.startswith("run_id:")), "")
        if not self.admits(self._run_id):
            raise _NewServer("a server that has to be told first what the one before it knew")


def _connect(url: str, timeout_s: float, connected: Callable[[Any], Awaitable[None]]) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    transport, _, kind = scheme.partition("+")
    options: dict[str, Any] = {
        "decode_responses": True,
        # Bytes that are no text are damage in one field, and not in all that is read with it.
        "encoding_errors": "replace",
        "max_connections": _CONNECTIONS,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    if not kind:
        client = Redis.from_url(url, redis_connect_func=connected, **options)
        where: dict[str, Any] = client.connection_pool.connection_kwargs
        address = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        return client, f"redis at {address}"
    if kind not in ("sentinel", "cluster") or transport not in ("redis", "rediss"):
        raise ValueError(
            f"{scheme}:// is not known; use redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    parts = urlsplit(f"redis://{rest}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options |= dict(parse_qsl(parts.query))
    if transport == "rediss":
        options["ssl"] = True
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    nodes = [_address(host, 6379 if kind == "cluster" else 26379) for host in hosts.split(",")]
    listed = ",".join(f"{host}:{port}" for host, port in nodes)
    if kind == "cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes], **options
        ), f"redis cluster at {listed}"
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the service's name is missing: redis+sentinel://host:port/SERVICE")
    watchers = Sentinel(
        nodes, sentinel_kwargs={"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    )
    client = watchers.master_for(service, db=int(database or 0), redis_connect_func=connected, **options)
    return client, f"redis {service} behind sentinels at {listed}"


def _address(text: str, port: int) -> tuple[str, int]:
    host, colon, number = text.rpartition(":")
    if not colon:
        return text, port
    if not host or not number.isdigit():
        raise ValueError(f"{text!r} is not of the form host:port")
    return host.strip("[]"), int(number)
