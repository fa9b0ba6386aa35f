"""What came of a call, as text for the model: words as they are, all else named. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    ReadResourceResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from glmbot_mcp.listing import in_one_line

__all__ = ["LONGEST_RESULT", "called", "prompted", "read"]

LONGEST_RESULT = 64_000
"""Characters. Each model cuts it further, to what fits."""
_LONGEST_PROMPT = 16_000
_MOST_BLOCKS = 100


def called(result: CallToolResult) -> str:
    text = _joined(_block(each) for each in result.content[:_MOST_BLOCKS])
    if not text and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    return _cut(text, LONGEST_RESULT)


def read(result: ReadResourceResult) -> str:
    return _cut(_joined(_contents(each) for each in result.contents[:_MOST_BLOCKS]), LONGEST_RESULT)


def prompted(result: GetPromptResult) -> str:
    """One question: models are asked one thing at a time, and nothing here may speak in their name."""
    return _cut(
        _joined(_block(each.content) for each in result.messages[:_MOST_BLOCKS]).strip(), _LONGEST_PROMPT
    )


def _block(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            return f"[{in_one_line(block.mime_type, 60)}, {_bytes(block.data)}]"
        case EmbeddedResource():
            return _contents(block.resource)
        case ResourceLink():
            return f"[{in_one_line(block.title or block.name, 80)}: {in_one_line(block.uri, 500)}]"
        case _:
            return "[something that is not shown]"


def _contents(contents: TextResourceContents | BlobResourceContents) -> str:
    if isinstance(contents, TextResourceContents):
        return contents.text
    kind = in_one_line(contents.mime_type or "file", 60)
    return f"[{kind}, {_bytes(contents.blob)}: {in_one_line(contents.uri, 500)}]"


def _bytes(base64: str) -> str:
    return f"{len(base64) * 3 // 4:,} bytes"


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n\n[{len(text) - longest:,} more characters were left out]"
