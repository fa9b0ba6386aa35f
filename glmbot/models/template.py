"""A model folder's chat template, rendered where it can do no harm: see `template_worker`."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["ChatTemplate", "TemplateExceeded", "TemplateRefused", "Wish"]

_WORKER = Path(__file__).parent / "template_worker.py"
_CPU_S = 2
_MEMORY = 512 << 20
# A busy machine may be slow to start a process; the processor's time is what counts.
_PATIENCE_S = 60.0
_LONGEST_TEMPLATE = 1 << 20
_SHAPES = 64
_LONGEST_SHAPE = 256 << 10
# What a process needs to run at all, and the clock's time zone; nothing of our settings.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ", "TZDIR")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be rendered, as Transformers' `apply_chat_template` takes it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


class TemplateRefused(ValueError):
    """The template does not take such a conversation, or is none."""


class TemplateExceeded(ValueError):
    """The template asked for more time, memory or room than any needs."""


class ChatTemplate:
    """Safe to use from several threads."""

    def __init__(self, source: str, variables: Mapping[str, Any], *, parts: bool = False) -> None:
        """variables: the tokenizer's special tokens by name, and switches. parts: it wants what is said as a list
        of parts, as models that see pictures have it. Raises TemplateExceeded."""
        if len(source) > _LONGEST_TEMPLATE:
            raise TemplateExceeded(f"has {len(source)} characters, at most {_LONGEST_TEMPLATE} are read")
        self._source = source
        # What is said goes behind it, as it was written once.
        self._head = json.dumps({"template": source, "variables": dict(variables)})[:-1]
        self.parts = parts
        self._shapes = lru_cache(maxsize=_SHAPES)(self._render)

    def outline(self, wish: Wish) -> str:
        """With marks for texts. What is rendered depends on the shape of the conversation alone then, and is kept
        for each. Raises TemplateRefused, TemplateExceeded."""
        shape = _written(wish)
        # What a clock says is not kept.
        kept = "strftime_now" not in self._source and len(shape) <= _LONGEST_SHAPE
        return self._shapes(shape) if kept else self._render(shape)

    def render(self, wish: Wish) -> str:
        """Raises TemplateRefused, TemplateExceeded."""
        return self._render(_written(wish))

    def said(self, text: str) -> str | list[dict[str, str]]:
        """A text as the template wants it in a message."""
        return [{"type": "text", "text": text}] if self.parts else text

    def _render(self, wish: str) -> str:
        made = _process.ask(f"{self._head}, {wish[1:]}")
        if "refused" in made:
            raise TemplateRefused(made["refused"])
        if "exceeded" in made:
            raise TemplateExceeded(made["exceeded"])
        return str(made["text"])


def _written(wish: Wish) -> str:
    try:
        return json.dumps({"messages": wish.messages, "tools": wish.tools})
    except RecursionError as error:
        raise TemplateRefused("what is said is nested too deeply") from error


class _Process:
    """One for all templates of this program; it ends with it. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, wish: str) -> dict[str, str]:
        """wish: a JSON object."""
        sent = wish.encode("ascii")
        with self._lock:
            process = self._running()
            timer = threading.Timer(_PATIENCE_S, process.kill)
            timer.daemon = True
            timer.start()
            try:
                return self._exchange(process, sent)
            finally:
                timer.cancel()

    def close(self) -> None:
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), str(_CPU_S), str(_MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED if name in os.environ},
                start_new_session=True,
            )
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], sent: bytes) -> dict[str, str]:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        with suppress(OSError):
            process.stdin.write(len(sent).to_bytes(4, "big") + sent)
            process.stdin.flush()
            head = process.stdout.read(4)
            made = process.stdout.read(int.from_bytes(head, "big"))
            if len(head) == 4 and made:
                return json.loads(made)
        status = _status(process)
        self._end()
        if status > 0:
            raise TemplateRefused(f"the process that renders it ended with status {status}")
        raise TemplateExceeded(f"takes more than {_CPU_S} s for one conversation")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _status(process: subprocess.Popen[bytes]) -> int:
    """Its own end, or that of a signal, which is negative."""
    try:
        return process.wait(5)
    except subprocess.TimeoutExpired:
        return -1


_process = _Process()
atexit.register(_process.close)
