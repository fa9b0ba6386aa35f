"""Asks search engines through ddgs: `python -I search_worker.py CPU_SECONDS BYTES`.

It reads JSON (`query`, `region`, `most`, `seconds`, `proxy`) and writes JSON: the hits, or what went wrong. Pages
of results are parsed here, away from everything else, and each connection goes through the proxy. It imports
nothing of glmbot.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["main"]

_LONGEST = 500


def _limit(seconds: int, memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    # The model's answers come first.
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _found(wish: dict[str, Any]) -> dict[str, Any]:
    from ddgs import DDGS
    from ddgs.exceptions import DDGSException

    try:
        hits: Any = DDGS(proxy=wish["proxy"], timeout=wish["seconds"]).text(
            wish["query"], region=wish["region"], safesearch="moderate", max_results=wish["most"]
        )
    except DDGSException as error:
        # The library writes "No results found." itself, and otherwise what its client said.
        return {"hits": []} if "No results" in str(error) else {"failed": type(error).__name__}
    keys = {"title": "title", "href": "url", "body": "text"}
    return {
        "hits": [
            {ours: str(hit.get(theirs, ""))[:_LONGEST] for theirs, ours in keys.items()}
            for hit in hits[: wish["most"]]
        ]
    }


def main() -> None:
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    made = _found(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(made).encode("ascii"))


if __name__ == "__main__":
    main()
