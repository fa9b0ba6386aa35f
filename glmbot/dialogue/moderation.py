"""What may not be asked or said here: a word list, and a program of the operator's own.

The program gets one JSON object on standard input, {"direction": "question" or "answer", "text", "user",
"conversation"}, and allows the text by ending with status 0. Status 1 refuses it; any other end, or none within
its time, refuses it too (and is logged), unless the operator chose otherwise.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Direction", "Moderation", "read_words"]

_log = logging.getLogger(__name__)

_REFUSED = 1
# Written without spaces between words, so a word of these is looked for anywhere.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class Direction(StrEnum):
    QUESTION = "question"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Moderation:
    words: Sequence[str] = ()
    command: Sequence[str] = ()
    timeout_s: float = 5.0
    refuse_on_failure: bool = True
    _pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", _pattern(self.words))

    @property
    def holds_answers(self) -> bool:
        """With a program to ask, an answer is shown when it is complete and was allowed."""
        return bool(self.command)

    def has_word(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    async def allows(self, direction: Direction, text: str, *, user: str, conversation: str) -> bool:
        if self.has_word(text):
            return False
        if not self.command:
            return True
        question = {"direction": direction, "text": text, "user": user, "conversation": conversation}
        try:
            status = await self._ask(json.dumps(question, ensure_ascii=False).encode())
        except (OSError, TimeoutError) as error:
            _log.error("[moderation] command %s: %s", self.command[0], error or "it took too long")
            return not self.refuse_on_failure
        if status not in (0, _REFUSED):
            _log.error("[moderation] command %s ended with status %d", self.command[0], status)
            return not self.refuse_on_failure
        return status == 0

    async def _ask(self, question: bytes) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(self.timeout_s):
                await process.communicate(question)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return process.returncode or 0


def read_words(text: str) -> list[str]:
    """One word or phrase a line; empty lines and lines that begin with # are none."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    """Whole words whatever their case, with any white space between them."""
    alternatives: list[str] = []
    for word in sorted(words, key=len, reverse=True):
        body = r"\s+".join(map(re.escape, word.split()))
        alternatives.append(body if _UNSPACED.search(word) else rf"(?<!\w){body}(?!\w)")
    return re.compile("|".join(alternatives) or r"(?!)", re.IGNORECASE)
