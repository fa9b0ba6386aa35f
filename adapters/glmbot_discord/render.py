"""The model's Markdown for Discord, which reads most of it: only what Discord lacks is rewritten.

https://support.discord.com/hc/en-us/articles/210298617: no tables and no rules; "-# " is small print.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

__all__ = ["render"]

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_RULE = re.compile(r" {0,3}([-*_])( *\1){2,} *")


def render(markdown: str, notice: str = "") -> str:
    """One message's content; `notice` stands under the answer in small print."""
    lines = markdown.split("\n")
    replaced: dict[int, tuple[int, list[str]]] = {}
    for token in _MARKDOWN.parse(markdown):
        if token.map is None or token.level:
            continue
        start, end = token.map
        if token.type == "table_open":
            while end > start and not lines[end - 1].strip():
                end -= 1
            replaced[start] = (end, ["```", *lines[start:end], "```"])
        elif token.type == "hr" and _RULE.fullmatch(lines[start]):
            replaced[start] = (end, ["———"])
    out: list[str] = []
    index = 0
    while index < len(lines):
        end, new = replaced.get(index, (index + 1, lines[index : index + 1]))
        out += new
        index = end
    content = "\n".join(out).strip("\n")
    small = "\n".join(f"-# {line}" for line in notice.split("\n") if line.strip())
    return f"{content}\n{small}" if content and small else content or notice
