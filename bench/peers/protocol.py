"""How the suite speaks with each engine: a process of its own, one JSON object a line in, one a line out.

Nothing but the standard library, as each peer has an environment of its own.

    {"prompts": [[ids]], "new_tokens": n, "delays": [s], "cancels": [tokens or null]}
    -> {"seconds": s, "requests": [{"first": s, "gaps": [s], "tokens": n, "text": t}], "peak_mb": m}

A request begins after its delay and is given up after so many tokens. `first` counts from its beginning; both are
null where an engine has no stream.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

Answer = dict[str, Any]

# What libraries print goes to stderr, from the moment this is imported.
_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(ready: dict[str, Any], handle: Callable[[dict[str, Any]], Answer]) -> None:
    """Answer every line of stdin."""
    _out.write(json.dumps(ready) + "\n")
    _out.flush()
    for line in sys.stdin:
        answer = handle(json.loads(line)) | {"peak_mb": peak_mb()}
        _out.write(json.dumps(answer) + "\n")
        _out.flush()
    os._exit(0)


def peak_mb() -> float:
    """The most memory that this process ever had, mapped files included."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(began: float, times: list[float], text: str) -> Answer:
    """Of one request, from when it began and when each token came."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return {"first": times[0] - began if times else None, "gaps": gaps, "tokens": len(times), "text": text}
