"""`glmbot` as a process of its own whose start costs a tenth of a second instead of ten: what it imports is imported once.

The process is forked from one that has imported all (program_server.py); from there on it is as any other. What tests the
start itself runs the installed program.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["GLMBOT", "Program", "glmbot", "running"]

# The installed program.
GLMBOT = Path(sys.executable).with_name("glmbot")
_LONGEST_START_S = 120


@functools.cache
def _server() -> socket.socket:
    """Ends when this process does: its socket is closed then."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        script = Path(__file__).with_name("program_server.py")
        subprocess.Popen([sys.executable, str(script), str(its.fileno())], pass_fds=[its.fileno()])
    return ours


@dataclass(frozen=True)
class Outcome:
    returncode: int
    stdout: str
    stderr: str


class Program:
    """One `glmbot` with its arguments. Its output is kept in files, which never make it wait."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        output: IO[str] | None = None,
    ) -> None:
        """output: for both of its streams."""
        self.returncode: int | None = None
        self._said = [] if output else [os.memfd_create(name) for name in ("stdout", "stderr")]
        asked = {
            "arguments": arguments, "folder": str(cwd), "environment": {**os.environ, **(environment or {})},
        }  # fmt: skip
        self._told, told = socket.socketpair()
        self._told.settimeout(_LONGEST_START_S)
        read, write = os.pipe()
        os.write(write, stdin.encode())
        os.close(write)
        streams = [output.fileno()] * 2 if output else self._said
        with told:
            socket.send_fds(_server(), [json.dumps(asked).encode()], [told.fileno(), read, *streams])
        os.close(read)
        self._lines = self._told.makefile("r")
        self.pid = int(self._line())

    def _line(self) -> str:
        line = self._lines.readline()
        if not line:
            raise RuntimeError("whoever starts glmbot has ended")
        return line

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """Raises TimeoutError."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            self.returncode = int(self._line())
            self._lines.close()
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it wrote to stdout and to stderr, once it has ended. Raises TimeoutError."""
        self.wait(timeout)
        stdout, stderr = (os.pread(file, os.fstat(file).st_size, 0).decode() for file in self._said)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it still runs, and forget what it said."""
        self.kill()
        self.wait()
        while self._said:
            os.close(self._said.pop())


def glmbot(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Outcome:
    """Run it to its end."""
    with running(*arguments, cwd=cwd, stdin=stdin, **environment) as program:
        stdout, stderr = program.communicate()
        return Outcome(program.wait(), stdout, stderr)


@contextmanager
def running(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Generator[Program]:
    """Killed in the end."""
    program = Program(*arguments, cwd=cwd, environment=environment, stdin=stdin)
    try:
        yield program
    finally:
        program.close()
