"""What programs of the rig say, each in an environment of its own: a line of JSON for each check."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

__all__ = ["checked"]


def checked(*checks: Callable[[], object]) -> None:
    """Each is called what its function is; it raises where something is not as it should be."""
    for each in checks:
        why = ""
        try:
            each()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            why = f"{type(error).__name__}: {error} (line {place[1 if len(place) > 1 else 0].lineno})"[:500]
        name = each.__name__.strip("_").replace("_", " ")
        print(json.dumps({"check": name, "ok": not why, "why": why}), flush=True)
