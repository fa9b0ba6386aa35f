"""Runs a program within the kernel's limits: `python -I limited.py CPU_SECONDS BYTES PROGRAM`.

It imports nothing of glmbot.
"""

from __future__ import annotations

import os
import runpy
import sys

__all__ = ["main"]


def _limit(seconds: int, memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    # The model's answers come first.
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Nothing is written to a file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def main() -> None:
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    runpy.run_path(sys.argv[3], run_name="__main__")


if __name__ == "__main__":
    main()
