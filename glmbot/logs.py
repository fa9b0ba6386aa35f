"""Logging: pleasant on a terminal, plain in a file, and never a secret in either."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler

__all__ = ["RECENT_ERRORS", "LoggedError", "SecretFilter", "set_up_logging"]

_MASK = "[secret]"
_QUIET = (
    "aiohttp.access",
    "discord",
    "filelock",
    "httpcore",
    "httpx",
    "markdown_it",
    "telegram",
    "transformers",
)
# Tokens of the platforms, wherever they come from: Telegram's and Discord's published forms.
_SHAPES = re.compile(
    r"(?<!\d)\d{6,}:[A-Za-z0-9_-]{30,}|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{23,28}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"
)
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class LoggedError:
    """`at` is Unix time."""

    at: float
    level: str
    text: str


RECENT_ERRORS: deque[LoggedError] = deque(maxlen=100)
"""Warnings and errors of this process, masked, newest last: for the operator's page."""


class SecretFilter(logging.Filter):
    """Masks the configured secrets, and whatever looks like a platform token, in message and traceback."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known)) or r"(?!)")

    def mask(self, text: str) -> str:
        return _SHAPES.sub(_MASK, self._known.sub(_MASK, text))

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.mask(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self.mask(logging.Formatter().formatException(record.exc_info))
        # Renderers that format the exception anew would show what was masked.
        record.exc_info = None
        return True


def set_up_logging(level: str, secrets: Iterable[str], form: Literal["text", "json"] = "text") -> None:
    """`form` "json" writes one object a line, for whoever collects logs."""
    secrets = list(secrets)
    handler: logging.Handler
    if form == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonFormatter())
    elif sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    recent = _Recent(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler, recent]
    for each in root.handlers:
        each.addFilter(SecretFilter(secrets))
    root.setLevel(level)
    # HTTP clients write every URL at INFO, and Telegram's URLs hold the token; the Markdown parser writes what
    # people are answered at DEBUG.
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class _Recent(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = "\n".join(filter(None, (record.getMessage(), record.exc_text)))
        RECENT_ERRORS.append(LoggedError(record.created, record.levelname, text))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            entry["traceback"] = record.exc_text
        return json.dumps(entry, ensure_ascii=False)
