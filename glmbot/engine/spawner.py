"""Processes that begin with everything imported: a first one imports, and each further one is a fork of it.

Importing torch and Transformers takes seconds of a processor; a fork takes none, also when a process that was lost
is started again. The first one has no threads of ours and has computed nothing, so that it can be forked safely.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection, Pipe, wait
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

__all__ = ["Spawned", "Spawner", "spawning"]

# Of the bot's environment workers get no secrets: of its settings, and of where its traces go.
_SECRET = ("GLMBOT_", "OTEL_")
_PASSED_ON = ("GLMBOT_NATIVE",)
_ENDING_S = 5.0


class Spawned:
    """A process, told things over `pipe`."""

    def __init__(self, pid: int, pipe: Connection, on_end: Callable[[Spawned], None]) -> None:
        self.pid = pid
        self.pipe = pipe
        self.status: int | None = None
        """As of subprocess.Popen; None while it is there."""
        self._over = threading.Event()
        self._on_end = on_end

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        return self._over.wait(timeout_s)

    def end(self) -> None:
        with suppress(OSError):
            self.pipe.close()
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(_ENDING_S)

    def ended(self, status: int) -> None:
        """Called by the spawner's thread."""
        self.status = status
        self._over.set()
        self._on_end(self)


class Spawner:
    """The first process. It is started when it is first needed, and anew when it has ended."""

    def __init__(self, command: Sequence[str]) -> None:
        """command: to which a descriptor is added; it calls `spawning`."""
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection
        self._pids: SimpleQueue[int | None] = SimpleQueue()
        self._spawned: dict[int, Spawned] = {}
        self._early: dict[int, int] = {}
        self._lock = threading.Lock()

    def spawn(self, on_end: Callable[[Spawned], None], timeout_s: float) -> Spawned:
        """Raises RuntimeError when it does not come up."""
        if self._process is None or self._process.poll() is not None:
            self._begin()
        here, there = Pipe()
        with there:
            try:
                self._control.send("spawn")
                reduction.send_handle(self._control, there.fileno(), None)  # pyright: ignore[reportAttributeAccessIssue]
                pid = self._pids.get(timeout=timeout_s)
            except (OSError, Empty) as error:
                self.close()
                raise RuntimeError(f"no process could be started in {timeout_s:.0f} s") from error
        if pid is None:
            self.close()
            raise RuntimeError("the process that starts others has ended")
        made = Spawned(pid, here, on_end)
        with self._lock:
            self._spawned[pid] = made
            status = self._early.pop(pid, None)
        if status is not None:
            made.ended(status)
        return made

    def close(self) -> None:
        if self._process is not None:
            self._control.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _begin(self) -> None:
        self.close()
        self._pids = SimpleQueue()
        self._control, there = Pipe()
        with there:
            self._process = subprocess.Popen(
                [*self._command, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(os.environ),
            )
        threading.Thread(
            target=self._listen, args=(self._control, self._pids), name="spawner", daemon=True
        ).start()

    def _listen(self, control: Connection, pids: SimpleQueue[int | None]) -> None:
        with suppress(EOFError, OSError):
            while True:
                pid, status = control.recv()
                if status is None:
                    pids.put(pid)
                    continue
                with self._lock:
                    ended = self._spawned.pop(pid, None)
                    if ended is None:
                        self._early[pid] = status
                if ended is not None:
                    ended.ended(status)
        pids.put(None)


def spawning(control: Connection, run: Callable[[Connection], None]) -> None:
    """The first process's work: fork when told to, each to `run` with its end of a pipe; say who ended how. Ends
    when `control` closes."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _wake)
    while True:
        ready: list[Any] = wait([control, woken])
        if woken in ready:
            os.read(woken, 512)
            _say_who_ended(control)
        if control not in ready:
            continue
        try:
            control.recv()
            descriptor = reduction.recv_handle(control)  # pyright: ignore[reportAttributeAccessIssue]
        except (EOFError, OSError):
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for mine in (woken, wake):
                os.close(mine)
            control.close()
            _run(run, Connection(descriptor))
        os.close(descriptor)
        control.send((pid, None))


def _wake(_number: int, _frame: FrameType | None) -> None:
    """A signal without a handler would not wake anybody."""


def _run(run: Callable[[Connection], None], pipe: Connection) -> None:
    status = 1
    try:
        run(pipe)
        status = 0
    except SystemExit:
        # It has said why.
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # What the first process would do at its end is not this one's.
        os._exit(status)


def _say_who_ended(control: Connection) -> None:
    with suppress(ChildProcessError, OSError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            control.send((pid, os.waitstatus_to_exitcode(status)))


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in own.items()
        # Settings are read whatever their case.
        if not name.upper().startswith(_SECRET) or name in _PASSED_ON
    }
