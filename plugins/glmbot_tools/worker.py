"""A program of ours in a process of its own, for what comes from strangers and may take any time and memory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from glmbot_tools import limited
from glmbot_tools.turns import Turns

__all__ = ["WorkerFailed", "Workers"]

# Of these only our own environment is handed on: the rest holds our keys.
_HANDED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_LONGEST_ANSWER = 4_000_000


class WorkerFailed(Exception):
    """It ended without an answer: by its limits, mostly."""


class Workers:
    """At most `at_once` of them, and one of each person; the others wait, within the time of whoever asks."""

    def __init__(self, at_once: int = 2) -> None:
        self._turns = Turns(at_once)

    async def answer(self, person: str, program: Path, given: bytes, *, seconds: int, memory: int) -> bytes:
        """What the program writes, given so much of the processor's time, twice that in all, and so many bytes of
        memory. Raises WorkerFailed. Whoever gives up ends the program."""
        async with self._turns.turn(person):
            with TemporaryDirectory(prefix="glmbot-tool-", ignore_cleanup_errors=True) as folder:
                try:
                    async with asyncio.timeout(2 * seconds):
                        return await _ended(program, given, seconds, memory, folder)
                except TimeoutError as error:
                    raise WorkerFailed(f"{program.stem} took more than {2 * seconds} seconds") from error


async def _ended(program: Path, given: bytes, seconds: int, memory: int, folder: str) -> bytes:
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", limited.__file__, str(seconds), str(memory), str(program)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env={**environment, "HOME": folder, "TMPDIR": folder},
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise WorkerFailed(f"{program.stem} has no pipes")
    try:
        # Without waiting until it is read: it may write first.
        process.stdin.write(given)
        process.stdin.close()
        answer = bytearray()
        while piece := await process.stdout.read(65_536):
            answer += piece
            if len(answer) > _LONGEST_ANSWER:
                raise WorkerFailed(f"{program.stem} wrote more than {_LONGEST_ANSWER:,} bytes")
        if status := await process.wait():
            raise WorkerFailed(f"{program.stem} ended with status {status}")
        return bytes(answer)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # It is only seen to be over once its last words are read.
            while await process.stdout.read(65_536):
                pass
            await process.wait()
