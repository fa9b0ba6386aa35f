"""A program of the operator's own that says what may not be asked or said.

It gets one JSON object on standard input, {"direction": "question" or "answer", "text", "user", "conversation"},
and allows the text by ending with status 0. Status 1 refuses it; any other end is a failure. It runs in an empty
folder, and of our environment it is told only where programs are and which language is spoken.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from glmbot.host import Passage

__all__ = ["Program", "ProgramFailed"]

_REFUSED = 1
# Of these only our own environment is handed on: the rest holds our keys.
_HANDED_ON = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT")
# What is longer is refused without asking.
_LONGEST_ASKED = 2_000_000


class ProgramFailed(Exception):
    """It neither allowed nor refused."""


class Program:
    def __init__(self, command: Sequence[str]) -> None:
        # It is started elsewhere, so what is written as seen from here gets its whole path.
        self._command = [
            str(Path(part).absolute())
            if (not number and "/" in part) or (number and _is_file(part))
            else part
            for number, part in enumerate(command)
        ]
        self._name = command[0]
        self._folder: TemporaryDirectory[str] | None = None

    async def allows(self, passage: Passage) -> bool:
        """Raises ProgramFailed. Whoever gives it up in the middle ends the program."""
        if len(passage.text) > _LONGEST_ASKED:
            return False
        try:
            status = await self._ended(json.dumps(asdict(passage), ensure_ascii=False).encode())
        except OSError as error:
            raise ProgramFailed(f"command {self._name}: {error}") from error
        if status not in (0, _REFUSED):
            raise ProgramFailed(f"command {self._name} ended with status {status}")
        return status == 0

    async def _ended(self, question: bytes) -> int:
        """The status that it ends with. Raises OSError."""
        if self._folder is None or not Path(self._folder.name).is_dir():
            # Machines delete what has lain in their temporary folder for days.
            self._folder = TemporaryDirectory(prefix="glmbot-moderation-", ignore_cleanup_errors=True)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self._folder.name,
            env=_environment(os.environ, self._folder.name),
            start_new_session=True,
        )
        try:
            await process.communicate(question)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    # With whatever it has started itself.
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0


def _environment(ours: Mapping[str, str], folder: str) -> dict[str, str]:
    return {**{name: ours[name] for name in _HANDED_ON if name in ours}, "HOME": folder, "TMPDIR": folder}


def _is_file(part: str) -> bool:
    try:
        return Path(part).is_file()
    except (OSError, ValueError):
        return False
