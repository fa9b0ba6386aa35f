"""Fails a test run that wrote a secret which one of its tests used.

A pytest plugin, loaded by conftest.py. Each process of the run notes what it writes and which secrets it uses; once all
tests have ended, everything is searched for every secret.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import glmbot.dialogue.manager
from glmbot.errors import GlmbotError

__all__ = ["SEEN", "Seen"]

OURS = ("glmbot", "glmbot_console", "glmbot_discord", "glmbot_telegram", "glmbot_web")
# What a test takes for a secret that it looks for; shorter ones would be found in anything.
_SECRET = re.compile(r"[\w:.\-]{12,}", re.ASCII)
# A worst value such as twenty nines is tried in a secret's place, too, and stands in complaints about other fields.
_LEAST_VARIED = 6
_PASSWORD = re.compile(r"//[^/@:]*:([^/@]+)@")


class Seen:
    """`written`: all log records of ours, and others' from WARNING on, before anything masks them; all errors of ours;
    all metrics. `secrets`: the values of every SecretStr."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.written: list[str] = []

    def secret(self, value: str) -> None:
        password = _PASSWORD.search(value)
        if "://" in value:
            value = password[1] if password else ""
        if _SECRET.fullmatch(value) and len(set(value)) >= _LEAST_VARIED:
            self.secrets.add(value)

    def leaks(self, texts: Iterable[str]) -> list[str]:
        if not self.secrets:
            return []
        any_of_them = re.compile("|".join(map(re.escape, sorted(self.secrets))))
        return [text[:500] for text in texts if any_of_them.search(text)]


SEEN = Seen()
LEAKS: list[str] = []
_NOTES = "secret-scan.json"


class _Scribe(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += logging.Formatter().formatException(record.exc_info)
        SEEN.written.append(text + (record.exc_text or ""))


def pytest_configure() -> None:
    scribe = _Scribe()
    for name in OURS:
        logging.getLogger(name).addHandler(scribe)
        logging.getLogger(name).setLevel(logging.DEBUG)
    for name in ("aiohttp", "asyncio", "discord", "httpx", "redis", "telegram", "transformers"):
        logging.getLogger(name).addHandler(scribe)
    _watch(SecretStr, "__init__", lambda _, value: SEEN.secret(str(value)))

    def raised(_: object, *words: object) -> None:
        SEEN.written.append(" ".join(map(str, words)))

    _watch(GlmbotError, "__init__", raised)
    exposition: Any = glmbot.dialogue.manager.exposition

    def measured(*arguments: Any) -> bytes:
        text: bytes = exposition(*arguments)
        SEEN.written.append(text.decode())
        return text

    glmbot.dialogue.manager.exposition = measured


def _watch(kind: type, name: str, note: Callable[..., None]) -> None:
    method = getattr(kind, name)

    def watched(self: Any, *arguments: Any, **named: Any) -> None:
        method(self, *arguments, **named)
        note(self, *arguments, *named.values())

    setattr(kind, name, watched)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What tests printed, the processes that they started included."""
    SEEN.written += [text for name, text in report.sections if "stdout" in name or "stderr" in name]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: leave the notes for the process that began the run. There, or alone: search."""
    folder: Path = session.config._tmp_path_factory.getbasetemp()  # pyright: ignore
    if hasattr(session.config, "workerinput"):
        notes = {"secrets": sorted(SEEN.secrets), "written": SEEN.written}
        (folder / _NOTES).write_text(json.dumps(notes), "utf-8")
        return
    for file in folder.glob(f"*/{_NOTES}"):
        notes = json.loads(file.read_text("utf-8"))
        SEEN.secrets |= set(notes["secrets"])
        SEEN.written += notes["written"]
    LEAKS.extend(SEEN.leaks([*SEEN.written, *_logs(folder)]))
    if LEAKS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LEAKS:
        terminalreporter.section("A secret that a test used was written", red=True)
        for leak in LEAKS:
            terminalreporter.line(leak)


def _logs(folder: Path) -> list[str]:
    """Of processes that tests started."""
    return [
        file.read_text("utf-8", "replace")
        for pattern in ("**/*.log", "**/log.txt", "**/log*.txt")
        for file in folder.glob(pattern)
        if file.is_file()
    ]
