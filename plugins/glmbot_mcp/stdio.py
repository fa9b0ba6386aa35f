"""A server that is a program of this machine: messages are lines of its input and output.

The SDK's own transport hands on our environment, and keeps a line of any length in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from logging import Logger
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from glmbot_mcp.metered import LARGEST_MESSAGE, Rate

__all__ = ["stdio_transport"]

# Longer lines are parsed beside the event loop.
_LONG = 2**16
_BYTES_A_SECOND, _MOST_BYTES = 8 * 2.0**20, 16 * 2.0**20
# A line costs time however short it is.
_LEAST_LINE = 4096
_WRITES_S = 30.0
# Each: to end by itself, and when it is told to.
_ENDS_S = 2.0
_LONGEST_ERROR = 500


@asynccontextmanager
async def stdio_transport(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Logger,
    on_trouble: Callable[[str], None],
) -> AsyncGenerator[TransportStreams]:
    """on_trouble: told in words why it is left, where that is its own fault. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=folder, env=dict(environment),
        start_new_session=True, limit=LARGEST_MESSAGE,
    )  # fmt: skip
    heard, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, to_say = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(_read(process, heard, log, on_trouble)),
        asyncio.create_task(_write(process, to_say, heard, on_trouble)),
        asyncio.create_task(_read_errors(process, log)),
    ]
    try:
        yield read_stream, write_stream
    finally:
        ending = asyncio.create_task(_end(process, tasks))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            # Whoever is in a hurry leaves no program behind.
            _signal(process, signal.SIGKILL)
            raise
        finally:
            for stream in (heard, read_stream, write_stream, to_say):
                stream.close()


async def _read(
    process: Process,
    heard: MemoryObjectSendStream[SessionMessage | Exception],
    log: Logger,
    on_trouble: Callable[[str], None],
) -> None:
    assert process.stdout is not None  # noqa: S101
    rate = Rate(_BYTES_A_SECOND, _MOST_BYTES)
    with heard, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                on_trouble(f"a message of more than {LARGEST_MESSAGE // 2**20} MiB came from it")
                return
            if not line:
                return
            if (wait := rate.take(max(len(line), _LEAST_LINE))) > 0:
                await asyncio.sleep(wait)
            try:
                if len(line) > _LONG:
                    message = await asyncio.to_thread(
                        jsonrpc_message_adapter.validate_json, line, by_name=False
                    )
                else:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                if line.strip():
                    log.debug("a line that is no message: %r", line[:_LONGEST_ERROR])
                continue
            await heard.send(SessionMessage(message))


async def _write(
    process: Process,
    to_say: MemoryObjectReceiveStream[SessionMessage],
    heard: MemoryObjectSendStream[SessionMessage | Exception],
    on_trouble: Callable[[str], None],
) -> None:
    assert process.stdin is not None  # noqa: S101
    try:
        async for each in to_say:
            written = each.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(written.encode() + b"\n")
            async with asyncio.timeout(_WRITES_S):
                await process.stdin.drain()
    except TimeoutError:
        on_trouble("it reads nothing of what it is told")
        heard.close()
    except OSError:
        heard.close()


async def _read_errors(process: Process, log: Logger) -> None:
    """What it says beside its messages is for the operator, as much as fits."""
    assert process.stderr is not None  # noqa: S101
    rate = Rate(_BYTES_A_SECOND / 64, _MOST_BYTES / 64)
    while said := await process.stderr.read(_LONG):
        log.debug("it says: %s", said[-_LONGEST_ERROR:].decode("utf-8", "replace").strip())
        if (wait := rate.take(len(said))) > 0:
            await asyncio.sleep(wait)


async def _end(process: Process, tasks: Sequence[asyncio.Task[None]]) -> None:
    """https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#shutdown, and then all that it has
    started, too."""
    assert process.stdin is not None  # noqa: S101
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    process.stdin.close()
    waiting = asyncio.create_task(process.wait())
    for sent in (None, signal.SIGTERM, signal.SIGKILL):
        if sent is not None:
            _signal(process, sent)
        done, _ = await asyncio.wait({waiting}, timeout=_ENDS_S)
        if done:
            break
    waiting.cancel()
    _signal(process, signal.SIGKILL)
    # It may have left its pipes to a program that is no longer of its group.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
