"""Runs a model's program in Monty, as a program that `limited` runs.

Monty is an interpreter of its own for a part of Python: no files, no network, no environment, no module that has
them, and bounds on time, memory, depth and what is printed (https://github.com/pydantic/monty). It runs in a
process of its own already; this one, and so that one too, has the kernel's limits around it besides. It reads JSON
(`code`, `seconds`, `memory`, `zone`) and writes JSON. It imports nothing of glmbot.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic_monty import CollectString, Monty, MontyCrashedError, MontyError

__all__ = ["main", "ran"]

_MOST_PRINTED = 200_000
_LONGEST = 20_000


def ran(pool: Monty, wish: dict[str, Any]) -> dict[str, str]:
    """What it printed, and what its last line is or what it ended with."""
    printed = CollectString(max_bytes=_MOST_PRINTED)
    limits: Any = {
        "max_feed_duration_secs": wish["seconds"],
        "max_memory": wish["memory"],
        "max_recursion_depth": 200,
        "max_suspensions": 20,
        "max_total_sleep_secs": 0.1,
    }
    policy: Any = {"sleep": "zero", "timezone": wish["zone"]}
    made = {"printed": "", "value": "", "failed": ""}
    try:
        with pool.checkout(limits=limits, os_policy=policy) as session:
            value = session.feed_run(wish["code"], print_callback=printed)
        made["value"] = "" if value is None else _shown(value)
    except MontyCrashedError:
        made["failed"] = "it took too much time or memory"
    except MontyError as error:
        made["failed"] = str(error)[-_LONGEST:]
    made["printed"] = printed.output[:_LONGEST]
    return made


def _shown(value: object) -> str:
    try:
        return repr(value)[:_LONGEST]
    except (ValueError, RecursionError):
        return "a value that is too large to be written"


def main() -> None:
    wish = json.loads(sys.stdin.buffer.read())
    with Monty(max_processes=1, request_timeout=wish["seconds"] + 1.0) as pool:
        made = ran(pool, wish)
    sys.stdout.buffer.write(json.dumps(made).encode("ascii"))


if __name__ == "__main__":
    main()
