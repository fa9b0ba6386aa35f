"""How answers look in one of OpenAI's interfaces, and what those have in common."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from glmbot.completions import Completion, TokenScore
from glmbot.messages import Reply, Usage
from glmbot_web.openai_errors import Failure, error_fields

__all__ = ["ChunkForm", "Form", "finish_reason", "named", "usage_of"]


class Form(ABC):
    """Of one request. `completions` are asked for each of its answers, whose snapshots it is told."""

    stream: bool
    completions: Sequence[Completion]

    @abstractmethod
    def whole(self, replies: Sequence[Reply]) -> Mapping[str, Any]:
        """The body, once all have ended."""

    @abstractmethod
    def opening(self) -> Sequence[bytes]:
        """The first events of a stream."""

    @abstractmethod
    def grown(self, number: int, reply: Reply) -> Sequence[bytes]:
        """Events for what is new of an answer, which may have ended with it."""

    @abstractmethod
    def closing(self, replies: Sequence[Reply]) -> Sequence[bytes]:
        """The last events, once all have ended."""

    @abstractmethod
    def failed(self, failure: Failure) -> Sequence[bytes]:
        """The last events, where something went wrong in between."""


class ChunkForm(Form):
    """Streams of chunks, which are like the whole body and end with [DONE]: chats and texts."""

    kind: str
    """Of chunks."""

    def __init__(self, prefix: str, model: str, *, counts: bool) -> None:
        """counts: whether a last chunk tells how many tokens there were."""
        self._id = f"{prefix}-{uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._counts = counts

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def chunk(self, choice: Mapping[str, Any]) -> bytes:
        return event({**self.head(self.kind), "choices": [choice]})

    def opening(self) -> Sequence[bytes]:
        return ()

    def closing(self, replies: Sequence[Reply]) -> Sequence[bytes]:
        done = b"data: [DONE]\n\n"
        if not self._counts:
            return (done,)
        return event({**self.head(self.kind), "choices": [], "usage": self.usage(replies)}), done

    def failed(self, failure: Failure) -> Sequence[bytes]:
        return event({"error": error_fields(failure)}), b"data: [DONE]\n\n"

    @abstractmethod
    def usage(self, replies: Sequence[Reply]) -> dict[str, int]: ...


def event(fields: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def finish_reason(reply: Reply) -> str:
    """The interfaces know no deadline; a client treats it like any other cut."""
    return (
        reply.finish_reason if reply.finish_reason in ("stop", "tool_calls", "content_filter") else "length"
    )


def usage_of(replies: Sequence[Reply], *, prompts: int = 1) -> dict[str, int]:
    """Of answers to so many prompts, each of which has the same number of them."""
    used = [reply.usage or Usage() for reply in replies]
    read = sum(each.prompt_tokens for each in used[:: len(used) // prompts])
    said = sum(each.completion_tokens for each in used)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def named(score: TokenScore) -> str:
    """One that is no text by itself is called by its id, as vLLM calls them."""
    return score.text or f"token_id:{score.token}"
