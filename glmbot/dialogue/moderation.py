"""What may not be asked or said here: a word list, and a program of the operator's own.

The program gets one JSON object on standard input, {"direction": "question" or "answer", "text", "user",
"conversation"}, and allows the text by ending with status 0. Status 1 refuses it; any other end, or none within
its time, refuses it too (and is logged), unless the operator chose otherwise. It runs in an empty folder, and of
our environment it is told only where programs are and which language is spoken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from glmbot.dialogue.words import Watch, WordList
from glmbot.messages import Message

__all__ = ["Direction", "Moderation"]

_log = logging.getLogger(__name__)

_REFUSED = 1
# Of these only our own environment is handed on: the rest holds our keys.
_HANDED_ON = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT")
# What is longer is refused without asking.
_LONGEST_ASKED = 2_000_000
_MOST_PROGRAMS = 8


class Direction(StrEnum):
    QUESTION = "question"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Moderation:
    words: Sequence[str] = ()
    command: Sequence[str] = ()
    timeout_s: float = 5.0
    refuse_on_failure: bool = True
    _list: WordList = field(init=False)
    _program: _Program = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_list", WordList(self.words))
        object.__setattr__(self, "_program", _Program(self.command, self.timeout_s))

    @property
    def holds_answers(self) -> bool:
        """With a program to ask, an answer is shown when it is complete and was allowed."""
        return bool(self.command)

    def has_word(self, text: str) -> bool:
        return self._list.has_word(text)

    def watch(self) -> Watch:
        """For one growing answer."""
        return Watch(self._list)

    async def allows_in(self, message: Message, direction: Direction, text: str) -> bool:
        """Of what belongs to this message."""
        return await self.allows(
            direction, text, user=str(message.user), conversation=str(message.conversation)
        )

    async def allows(self, direction: Direction, text: str, *, user: str, conversation: str) -> bool:
        """`text` is all that is to be looked at: the program is asked once."""
        # Long texts are looked at beside other people's streams.
        found = await asyncio.to_thread(self.has_word, text) if len(text) > 20_000 else self.has_word(text)
        if found:
            return False
        if not self.command or not text.strip():
            return True
        if len(text) > _LONGEST_ASKED:
            _log.error("[moderation] a text of %d characters is too long to be looked at", len(text))
            return False
        question = {"direction": direction, "text": text, "user": user, "conversation": conversation}
        try:
            status = await self._program.ask(json.dumps(question, ensure_ascii=False).encode())
        except (OSError, TimeoutError) as error:
            _log.error("[moderation] command %s: %s", self.command[0], error or "it took too long")
            return not self.refuse_on_failure
        if status not in (0, _REFUSED):
            _log.error("[moderation] command %s ended with status %d", self.command[0], status)
            return not self.refuse_on_failure
        return status == 0


class _Program:
    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        # It is started elsewhere, so what is written as seen from here gets its whole path.
        self._command = [
            str(Path(part).absolute())
            if (not number and "/" in part) or (number and _is_file(part))
            else part
            for number, part in enumerate(command)
        ]
        self._timeout_s = timeout_s
        self._folder: TemporaryDirectory[str] | None = None
        self._free = asyncio.Semaphore(_MOST_PROGRAMS)

    async def ask(self, question: bytes) -> int:
        """The status that it ends with. Raises OSError and TimeoutError."""
        async with self._free:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="glmbot-moderation-")
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
                async with asyncio.timeout(self._timeout_s):
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
