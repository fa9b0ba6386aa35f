"""`glmbot serve` in a process of its own, for as long as somebody asks it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["serving"]

STARTS_S = 180.0


@contextmanager
def serving(home: Path, lines: str, *options: str) -> Generator[str]:
    """lines: of its configuration, besides those of the store and the web. Its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(
        f'{lines}\n[store]\npath = "{home}/s.sqlite3"\njournal_path = "{home}/j.sqlite3"\n[web]\n'
    )
    command: Sequence[str] = [sys.executable, "-m", "glmbot", "serve", "--config", str(home / "config.toml")]
    # What it says is nobody's who reads our output.
    process = subprocess.Popen([*command, "--port", str(port), *options], cwd=home, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + STARTS_S
        while not _answers(f"{url}/readyz"):
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit("glmbot serve did not start")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
