"""Another process that keeps one core busy, as on a machine that people share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

# It stays on its core: moved about by the system, it would take now one thread's time and now another's. It ends
# with whoever started it, even one that was killed: its input is closed then.
_SPIN = """
import os, sys, threading
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print("busy", flush=True)
while True:
    pass
"""


@contextmanager
def busy_core() -> Generator[int]:
    """While the context lasts, a process spins on the last of this process's cores. Yields its id.

    Raises RuntimeError when it does not start.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the busy neighbour did not start")
            yield process.pid
        finally:
            process.kill()
