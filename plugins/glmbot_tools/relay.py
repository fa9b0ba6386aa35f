"""A way out for a program of ours that makes its own connections: a proxy that only goes where the guard lets it.

It listens on this machine for as long as it is needed, wants a password that only that program is told, and knows
CONNECT alone, so that what passes is encrypted from end to end.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from glmbot.http.address_guard import AddressGuard, AddressRefused

__all__ = ["relay"]

_LONGEST_HEAD = 8192
_MOST_BYTES = 16_000_000
_MOST_AT_ONCE = 32
_HEAD_S = 10.0


@asynccontextmanager
async def relay(guard: AddressGuard) -> AsyncGenerator[str]:
    """The proxy's URL, password included."""
    password = secrets.token_hex(16)
    wanted = "basic " + b64encode(f"glmbot:{password}".encode()).decode()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(tasks) >= _MOST_AT_ONCE:
            writer.close()
            return
        tasks.add(task)
        try:
            await _served(guard, wanted, reader, writer)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LONGEST_HEAD)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://glmbot:{password}@127.0.0.1:{port}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _served(
    guard: AddressGuard,
    wanted: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    async with asyncio.timeout(_HEAD_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")
        known = {
            name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)
        }
        scheme, _, given = known.get("proxy-authorization", "").partition(" ")
        if not hmac.compare_digest(f"{scheme.lower()} {given}".encode(), wanted.encode()):
            await _say(writer, "407 Proxy Authentication Required")
            return
        method, target, *_ = line.split(" ")
        host, _, port = target.rpartition(":")
        if method != "CONNECT" or not port.isascii() or not port.isdigit():
            await _say(writer, "405 Method Not Allowed")
            return
        try:
            addresses = await guard.addresses(host.strip("[]"), int(port))
            there, away = await asyncio.open_connection(addresses[0], int(port))
        except (AddressRefused, OSError):
            await _say(writer, "403 Forbidden")
            return
    try:
        await _say(writer, "200 Connection established")
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, away))
            both.create_task(_pump(there, writer))
    except* OSError:
        pass
    finally:
        away.close()


async def _say(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode("ascii"))
    await writer.drain()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    left = _MOST_BYTES
    while left > 0 and (piece := await source.read(65_536)):
        left -= len(piece)
        target.write(piece)
        await target.drain()
    with suppress(OSError, RuntimeError):
        target.write_eof()
