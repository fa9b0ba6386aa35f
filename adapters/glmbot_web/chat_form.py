"""Answers of POST /v1/chat/completions: https://platform.openai.com/docs/api-reference/chat/object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glmbot.completions import Completion, TokenScore
from glmbot.messages import Reply
from glmbot_web.choices import NOTHING
from glmbot_web.normalize import ChatCompletionRequest
from glmbot_web.openai_form import ChunkForm, finish_reason, named, usage_of
from glmbot_web.tool_forms import called, tool_deltas

__all__ = ["ChatForm", "scored_tokens"]


class ChatForm(ChunkForm):
    kind = "chat.completion.chunk"

    def __init__(self, wish: ChatCompletionRequest, completions: Sequence[Completion], model: str) -> None:
        options = wish.stream_options
        super().__init__("chatcmpl", model, counts=options is not None and options.include_usage)
        self.stream = wish.stream
        self.completions = completions
        self._scores = bool(wish.logprobs)
        self._told = [NOTHING] * len(completions)

    def whole(self, replies: Sequence[Reply]) -> Mapping[str, Any]:
        choices = [self._choice(number, reply) for number, reply in enumerate(replies)]
        return {**self.head("chat.completion"), "choices": choices, "usage": self.usage(replies)}

    def opening(self) -> Sequence[bytes]:
        delta = {"role": "assistant", "content": ""}
        return [self._delta(number, delta) for number in range(len(self.completions))]

    def grown(self, number: int, reply: Reply) -> Sequence[bytes]:
        told, events = self._told[number], list[bytes]()
        if len(reply.thought) > len(told.thought):
            events.append(self._delta(number, {"reasoning_content": reply.thought[len(told.thought) :]}))
        if len(reply.text) > len(told.text) or len(reply.scores) > len(told.scores):
            delta = {"content": reply.text[len(told.text) :]}
            events.append(self._delta(number, delta, scores=reply.scores[len(told.scores) :]))
        if reply.finish_reason is not None:
            events += [self._delta(number, delta) for delta in tool_deltas(reply.calls)]
            events.append(self._delta(number, {}, finish_reason(reply)))
        self._told[number] = reply
        return events

    def usage(self, replies: Sequence[Reply]) -> dict[str, int]:
        return usage_of(replies)

    def _choice(self, number: int, reply: Reply) -> dict[str, Any]:
        # As DeepSeek, vLLM and SGLang call it.
        thought = {"reasoning_content": reply.thought} if reply.thought else {}
        calls = {"tool_calls": called(reply.calls)} if reply.calls else {}
        content = None if reply.calls and not reply.text else reply.text
        return {
            "index": number,
            "message": {"role": "assistant", "content": content, **thought, **calls, "refusal": None},
            "logprobs": self._logprobs(reply.scores),
            "finish_reason": finish_reason(reply),
        }

    def _delta(
        self,
        number: int,
        delta: Mapping[str, Any],
        finish: str | None = None,
        scores: Sequence[TokenScore] = (),
    ) -> bytes:
        logprobs = self._logprobs(scores) if scores else None
        return self.chunk({"index": number, "delta": delta, "finish_reason": finish, "logprobs": logprobs})

    def _logprobs(self, scores: Sequence[TokenScore]) -> dict[str, Any] | None:
        return {"content": scored_tokens(scores), "refusal": None} if self._scores else None


def scored_tokens(scores: Sequence[TokenScore]) -> list[dict[str, Any]]:
    return [{**_token(score), "top_logprobs": [_token(each) for each in score.top]} for score in scores]


def _token(score: TokenScore) -> dict[str, Any]:
    # Bytes are null for what is no text.
    bytes_ = list(score.text.encode()) if score.text else None
    return {"token": named(score), "logprob": score.logprob, "bytes": bytes_}
