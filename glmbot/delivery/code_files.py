"""Code too long for a chat, as files beside the answer: what is split over messages can't be copied in one go."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt

from glmbot.messages import Attachment

__all__ = ["code_files"]

# More than a phone's screen, and nearly what makes a second message on Discord.
_LONG = 1500
# Blocks alone: what is inside their lines costs most of the time.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("inline")
_ENDINGS = {
    "bash": "sh", "c": "c", "c++": "cpp", "cpp": "cpp", "cs": "cs", "csharp": "cs", "css": "css", "go": "go",
    "html": "html", "java": "java", "javascript": "js", "js": "js", "json": "json", "kotlin": "kt", "lua": "lua",
    "php": "php", "python": "py", "py": "py", "ruby": "rb", "rust": "rs", "sh": "sh", "shell": "sh", "sql": "sql",
    "swift": "swift", "toml": "toml", "ts": "ts", "typescript": "ts", "xml": "xml", "yaml": "yaml",
}  # fmt: skip


def code_files(markdown: str) -> Sequence[Attachment]:
    """One file for each long fenced block, named after its place and language."""
    if len(markdown) < _LONG:
        return []
    fences = [token for token in _MARKDOWN.parse(markdown) if token.type == "fence"]
    found: list[Attachment] = []
    for number, fence in enumerate(fences, 1):
        if len(fence.content) >= _LONG:
            language = fence.info.strip().split(" ")[0].lower()
            name = f"code-{number}.{_ENDINGS.get(language, 'txt')}"
            found.append(Attachment(name, fence.content.encode(), "text/plain"))
    return found
