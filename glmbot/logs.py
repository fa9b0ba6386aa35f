"""Logging: pleasant on a terminal, plain in a file, and never a secret in either.

What is written may hold words of anybody: a record is one line, however it was meant, and of bounded length; a
flood of the same one is folded.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler

from glmbot.introduction import introductions

__all__ = [
    "RECENT_ERRORS",
    "SPEAKS_AS",
    "STDERR",
    "LoggedError",
    "SecretFilter",
    "for_terminal",
    "hide",
    "one_line",
    "outward",
    "set_up_logging",
]

# One for all that is written there: rich puts a line above a bar that it draws on the same console, and into one
# that it draws on another.
STDERR = Console(stderr=True, highlight=False)

_MASK = "[secret]"
_QUIET = (
    "aiohttp.access",
    "filelock",
    "httpcore",
    "httpx",
    "httpx2",
    "markdown_it",
    "mcp",
    "transformers",
)
# Who an address says that one is, with the password.
_ADDRESSED = r"(?<=://)[^\s/?#\"'<>]+(?=@)"
_SHORTEST = 4
_LONGEST_MESSAGE = 4000
_LONGEST_TRACEBACK = 16_000
_LONGEST_OUTWARD = 300
_FOLDER = re.compile(r"(?<![\w/:.])/(?:[^\s/:'\"]+/)+")
# Control characters, the marks that turn the direction of a line, and what else ends one.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# So many of the same line, and so many from the same place, within a window.
_WINDOW_S = 10.0
_SAME_LINES = 5
_SAME_PLACE = 50
_MOST_PLACES = 1000


@dataclass(frozen=True, slots=True)
class LoggedError:
    """`at` is Unix time."""

    at: float
    level: str
    text: str


RECENT_ERRORS: deque[LoggedError] = deque(maxlen=100)
"""Warnings and errors of this process, masked, newest last: for the operator's page."""


SPEAKS_AS: ContextVar[str] = ContextVar("SPEAKS_AS", default="")
"""The bot with a name of its own whose work is being done, such as "telegram.support": its lines begin with it."""


class SecretFilter(logging.Filter):
    """Masks the configured secrets, and whatever looks like a platform token, in message and traceback."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets: set[str] = set()
        self._known = re.compile(r"(?!)")
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> Sequence[str]:
        """Returns those that are new."""
        new = {secret for secret in secrets if len(secret) >= _SHORTEST} - self._secrets
        if new:
            self._secrets |= new
            known = sorted(self._secrets, key=len, reverse=True)
            self._known = re.compile("|".join(map(re.escape, known)))
        return sorted(new)

    def mask(self, text: str) -> str:
        return _shapes().sub(_MASK, self._known.sub(_MASK, text))

    def filter(self, record: logging.LogRecord) -> bool:
        said, bot = _message(record), SPEAKS_AS.get()
        if not said.startswith(bot):
            said = f"{bot}: {said}"
        record.msg, record.args = one_line(self.mask(said), _LONGEST_MESSAGE), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            # Indented, so that no text in an error can pass for a record of its own.
            lines = _shortened(self.mask(record.exc_text), _LONGEST_TRACEBACK).split("\n")
            record.exc_text = "\n".join(f"    {_escaped(line).strip()}" for line in lines)
        # Renderers that format the exception anew would show what was masked.
        record.exc_info = None
        return True


@cache
def _shapes() -> re.Pattern[str]:
    """Tokens of the platforms, wherever they come from, by their published forms."""
    forms = [_ADDRESSED]
    for name, introduction in introductions().items():
        for form in introduction.token_shapes:
            try:
                forms.append(re.compile(form).pattern)
            except re.error as error:
                logging.getLogger(__name__).error(
                    "the tokens of %s can't be told by their shape: %s", name, error
                )
    return re.compile("|".join(forms))


def one_line(text: str, longest: int) -> str:
    """With its line ends and control characters written out, and shortened in the middle."""
    return _escaped(_shortened(text, longest).replace("\n", "\\n").replace("\t", " "))


def for_terminal(text: str) -> str:
    """Words of an error, which may have lines, without any secret or control character."""
    lines = _shortened(_secrets.mask(text), _LONGEST_MESSAGE).split("\n")
    return "\n".join(_escaped(line) for line in lines)


def outward(text: str) -> str:
    """For those who may ask how the bot is without being its operator: one short line, without any secret and
    without the folders of a path."""
    return _FOLDER.sub("", one_line(_secrets.mask(text), _LONGEST_OUTWARD))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # An argument that does not fit its place must not cost the record.
        return f"{record.msg} {record.args!r} ({type(error).__name__})"


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"


_secrets = SecretFilter(())


def hide(secrets: Iterable[str]) -> Sequence[str]:
    """Mask these from now on, too. Returns those that are new."""
    return _secrets.add(secrets)


def set_up_logging(level: str, secrets: Iterable[str], form: Literal["text", "json"] = "text") -> None:
    """`form` "json" writes one object a line, for whoever collects logs."""
    global _secrets
    handler: logging.Handler
    if form == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonFormatter())
    elif sys.stderr.isatty():
        handler = RichHandler(console=STDERR, show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _secrets = SecretFilter(secrets)
    door = _Door([handler, _Recent(logging.WARNING)])
    door.addFilter(_secrets)
    root = logging.getLogger()
    root.setLevel(level)
    # Before anything goes through: what is wrong with one of them is logged, too.
    _shapes()
    root.handlers[:] = [door]
    # HTTP clients write every URL at INFO, and Telegram's URLs hold the token; the Markdown parser writes what
    # people are answered at DEBUG.
    of_platforms = [name for each in introductions().values() for name in each.loggers]
    for name in (*_QUIET, *of_platforms):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


@dataclass(slots=True)
class _Seen:
    since: float
    count: int = 0
    held: int = 0
    last: logging.LogRecord | None = None


class _Door(logging.Handler):
    """Passes records on, a flood of alike ones folded into how many there were."""

    def __init__(self, targets: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._targets = targets
        self._seen: OrderedDict[tuple[str, int, str], _Seen] = OrderedDict()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._tell_held(record.created)
        line = (record.name, record.levelno, record.getMessage()[:500])
        place = (record.name, record.lineno, record.pathname)
        counts = [
            (self._of(line, record.created), _SAME_LINES),
            (self._of(place, record.created), _SAME_PLACE),
        ]
        for seen, most in counts:
            seen.count += 1
            if seen.count > most:
                seen.held, seen.last = seen.held + 1, record
                self._look_later()
                return
        self._pass_on(record)

    def flush(self) -> None:
        self._tell_held(float("inf"))

    def _of(self, key: tuple[str, int, str], now: float) -> _Seen:
        seen = self._seen.get(key)
        # A clock that was set back ends a window too.
        if seen is None or not 0 <= now - seen.since < _WINDOW_S:
            seen = self._seen[key] = _Seen(now)
            self._seen.move_to_end(key)
            if len(self._seen) > _MOST_PLACES:
                self._tell(self._seen.popitem(last=False)[1])
        return seen

    def _tell_held(self, now: float) -> None:
        for key, seen in list(self._seen.items()):
            if 0 <= now - seen.since < _WINDOW_S:
                return
            del self._seen[key]
            self._tell(seen)

    def _tell(self, seen: _Seen) -> None:
        if seen.last is None:
            return
        more = logging.makeLogRecord({**seen.last.__dict__, "exc_text": None})
        more.msg = f"… and {seen.held} more like it: {seen.last.getMessage()}"
        self._pass_on(more)

    def _look_later(self) -> None:
        """Also when nothing is logged any more."""
        if self._timer is None:
            self._timer = threading.Timer(_WINDOW_S, self._look)
            self._timer.daemon = True
            with suppress(RuntimeError):  # no thread can be had: the next record tells
                self._timer.start()

    def _look(self) -> None:
        self.acquire()
        try:
            self._timer = None
            self._tell_held(time.time())
            if any(seen.held for seen in self._seen.values()):
                self._look_later()
        finally:
            self.release()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for target in self._targets:
            if record.levelno >= target.level:
                target.handle(record)


class _Recent(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = "\n".join(filter(None, (record.getMessage(), record.exc_text)))[:_LONGEST_MESSAGE]
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
