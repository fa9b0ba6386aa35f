"""No secret reaches a log, whoever writes it."""

from __future__ import annotations

import io
import json
import logging
import sys

import httpx
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import BarColumn, Progress, TextColumn

from glmbot.logs import RECENT_ERRORS, STDERR, outward, set_up_logging

TOKEN = "987654321:AAsecretSECRETsecretSECRETsecretSECR"


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_secrets_are_masked_in_messages_arguments_and_tracebacks(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("DEBUG", ["open-sesame", "x"])
    log = logging.getLogger("anything")
    log.warning("the token is %s", TOKEN)
    log.info("login with open-sesame")
    log.info({"url": f"https://api.telegram.org/bot{TOKEN}/getMe"})
    try:
        raise RuntimeError(f"refused: {TOKEN} open-sesame")
    except RuntimeError:
        log.exception("failed")
    log.info("an x stays an x")
    written = capfd.readouterr().err
    assert written.count("[secret]") >= 5
    assert TOKEN not in written
    assert "open-sesame" not in written
    assert "an x stays an x" in written
    assert "RuntimeError" in written


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("url='http://ann:pass%20word@10.0.0.1:7890'", "url='http://[secret]@10.0.0.1:7890'"),
        ("redis://:p@ss@store:6379/0 is away", "redis://[secret]@store:6379/0 is away"),
        (
            "see https://example.org/@ann, or ask ann@example.org",
            "see https://example.org/@ann, or ask ann@example.org",
        ),
    ],
)
def test_the_password_of_an_address_is_masked_wherever_it_comes_from(
    capfd: pytest.CaptureFixture[str], said: str, written: str
) -> None:
    # One of the environment is in no section of the configuration, and libraries write theirs in another form.
    set_up_logging("INFO", [])
    logging.getLogger("glmbot.test").warning("%s", said)
    assert written in capfd.readouterr().err


async def test_the_http_clients_do_not_write_urls(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", [])
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(f"http://127.0.0.1:9/bot{TOKEN}/getMe")
    assert TOKEN not in capfd.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "forged",
    [
        "x\n2026-01-01 00:00:00 ERROR glmbot.app: forged",
        "x\r\nforged",
        "x\x1b[2Jforged",
        "x\u2028forged",
        "x\u202edegrof",
        "x\x85forged",
        "x\ud800forged",
    ],
)
def test_no_text_of_others_makes_a_line_of_its_own(
    capfd: pytest.CaptureFixture[str], form: str, forged: str
) -> None:
    set_up_logging("INFO", [], "json" if form == "json" else "text")
    log = logging.getLogger("glmbot.test")
    log.warning("it said %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("failed")
    written = capfd.readouterr().err
    assert "\x1b" not in written
    assert "\u202e" not in written
    records = [line for line in written.splitlines() if not line.startswith("    ")]
    assert len(records) == 2, written
    if form == "json":
        assert all(json.loads(line)["logger"] == "glmbot.test" for line in records)
    else:
        assert all(" glmbot.test: " in line for line in records)


def test_lines_and_tracebacks_have_a_length(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", [])
    log = logging.getLogger("glmbot.test")
    log.warning("it said %s and ended", "a" * 10**6)
    try:
        raise ValueError("b" * 10**6)
    except ValueError:
        log.exception("failed")
    written = capfd.readouterr().err
    assert len(written) < 30_000
    assert "and ended" in written
    assert len(RECENT_ERRORS[-1].text) < 5000


def test_a_flood_is_folded_and_what_is_rare_still_comes(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", [])
    log = logging.getLogger("glmbot.test")
    for _ in range(317):
        log.error("no room")
    for number in range(1000):
        log.warning("file %d is broken", number)
    log.info("rare")
    logging.getLogger().handlers[0].flush()
    written = capfd.readouterr().err
    lines = written.splitlines()
    assert len(lines) < 80
    assert "rare" in written
    assert "… and 312 more like it: no room" in written
    assert "… and 950 more like it: file 999 is broken" in written


@given(st.text())
def test_what_anybody_may_read_is_short_and_on_one_line(text: str) -> None:
    said = outward(f"{text} in /var/lib/bot/store.sqlite3: {TOKEN}")
    assert len(said) < 2000
    assert TOKEN not in said
    assert len(said.splitlines()) <= 1
    assert "/var/lib" not in outward("unable to open /var/lib/bot/store.sqlite3: no such file")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_and_a_bar_never_stand_in_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the model is loaded."""
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    # What rich looks at once, when the console is made.
    monkeypatch.setattr(STDERR, "is_interactive", True)
    set_up_logging("INFO", ())
    screen = pyte.Screen(80, 24)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=STDERR, auto_refresh=False) as bar:
        bar.add_task("loading the model", total=1.0)
        bar.refresh()
        logging.getLogger("glmbot").info("kernels are there")
        bar.refresh()
        pyte.Stream(screen).feed(terminal.getvalue().replace("\n", "\r\n"))
    rows = [row for row in screen.display if row.strip()]
    assert ["INFO" in row and "kernels are there" in row for row in rows] == [True, False]
    assert rows[1].startswith("loading the model")
