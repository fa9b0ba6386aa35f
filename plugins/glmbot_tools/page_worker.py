"""Takes the text out of a page, as a program that `limited` runs.

The page is a stranger's, and its parser is a large one in C: here both meet the kernel's limits. It reads one line
of JSON (`kind`, `charset`, `url`, `most` characters) and the page, and writes JSON. It imports nothing of glmbot.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["main"]

_LONGEST_TITLE = 300


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError, ValueError):
        return body.decode("utf-8", "replace")


def _read(page: dict[str, Any], body: bytes) -> dict[str, Any]:
    if page["kind"] not in ("text/html", "application/xhtml+xml"):
        return {"title": "", "text": _decoded(body, page["charset"])}
    import trafilatura
    from trafilatura.settings import use_config

    config = use_config()
    # The kernel keeps the time here.
    config.set("DEFAULT", "EXTRACTION_TIMEOUT", "0")
    html: Any = _decoded(body, page["charset"]) if page["charset"] else body
    found: Any = trafilatura.bare_extraction(
        html, url=page["url"], config=config, include_comments=False, with_metadata=True, favor_recall=True
    )
    if found is None:
        return {"title": "", "text": ""}
    return {"title": found.title or "", "text": found.text or ""}


def main() -> None:
    page = json.loads(sys.stdin.buffer.readline())
    found = _read(page, sys.stdin.buffer.read())
    text, most = found["text"].replace("\0", "").strip(), page["most"]
    made = {
        "title": " ".join(found["title"].replace("\0", "").split())[:_LONGEST_TITLE],
        "text": text[:most],
        "left": max(0, len(text) - most),
    }
    sys.stdout.buffer.write(json.dumps(made).encode("ascii"))


if __name__ == "__main__":
    main()
