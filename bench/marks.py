"""Parts of pages that scripts write anew: what stands between the marks <!-- NAME --> and <!-- /NAME -->."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["between", "write_between"]


def between(name: str) -> re.Pattern[str]:
    """Its groups are the two marks."""
    return re.compile(rf"(<!-- {name} -->\n?).*?(<!-- /{name} -->)", re.DOTALL)


def write_between(path: Path, name: str, made: str) -> None:
    text = path.read_text("utf-8")
    marks = between(name)
    if not marks.search(text):
        raise SystemExit(f"{path} has no <!-- {name} --> marks to write between")
    path.write_text(marks.sub(lambda found: found[1] + made + found[2], text), "utf-8")
