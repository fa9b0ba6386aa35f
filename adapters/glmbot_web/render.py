"""The model's Markdown as HTML that is safe to put into a page: no raw HTML, no script links."""

from __future__ import annotations

from markdown_it import MarkdownIt

__all__ = ["to_html"]

# markdown-it escapes raw HTML with html=False and refuses javascript:, vbscript:, file: and data: links.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
# A picture would tell a foreign server that this answer was read.
_MARKDOWN.disable("image")


def to_html(markdown: str) -> str:
    return _MARKDOWN.render(markdown)
