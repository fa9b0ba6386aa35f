"""Asks search engines through ddgs, as a program that `limited` runs.

It reads JSON (`query`, `region`, `most`, `seconds`, `proxy`) and writes JSON: the hits, or what went wrong. Pages
of results are parsed here, away from everything else, and each connection goes through the proxy. It imports
nothing of glmbot.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["main"]

_LONGEST = 500


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
    made = _found(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(made).encode("ascii"))


if __name__ == "__main__":
    main()
