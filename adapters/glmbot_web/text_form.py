"""POST /v1/completions, texts without a chat template: https://platform.openai.com/docs/api-reference/completions.

Evaluation harnesses score texts by it: `echo` with `logprobs` says how likely each token of the prompt is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from glmbot.completions import Completion, TokenScore
from glmbot.messages import Reply
from glmbot_web.bodies import (
    LARGEST_COUNT,
    BadRequest,
    DrawingBody,
    StreamOptions,
    only,
    valid,
)
from glmbot_web.choices import NOTHING
from glmbot_web.openai_form import ChunkForm, finish_reason, named, usage_of
from glmbot_web.program import Program

__all__ = ["TextCompletionRequest", "TextForm", "text_completions"]

_MOST_PROMPTS = 64
_MOST_ANSWERS = 128
# What the interface has for who asks for nothing else.
_TOKENS = 16


def _prompts(given: object) -> object:
    """One look at each of many tokens."""
    several = cast(list[Any], given) if isinstance(given, list) else [given]
    if several and _tokens(several):
        return given
    if 0 < len(several) <= _MOST_PROMPTS and (
        all(isinstance(each, str) for each in several)
        or all(isinstance(each, list) and each and _tokens(cast(list[Any], each)) for each in several)
    ):
        return given
    raise PydanticCustomError(
        "no_prompt",
        "must be a text, the ids of tokens, or up to {most} of one of these",
        {"most": _MOST_PROMPTS},
    )


def _tokens(given: list[Any]) -> bool:
    return all(type(each) is int and 0 <= each <= LARGEST_COUNT for each in given)


_Prompts = Annotated[str | list[str] | list[int] | list[list[int]], BeforeValidator(_prompts)]


class TextCompletionRequest(DrawingBody):
    """What asks for something that is not done here is refused by its name, and so is what is not known."""

    model_config = ConfigDict(extra="forbid")

    prompt: _Prompts
    max_tokens: int | None = Field(default=None, ge=0, le=LARGEST_COUNT)
    logprobs: int | None = Field(default=None, ge=0, le=20, strict=True)
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    best_of: Annotated[None, only(1)] = None
    suffix: Annotated[None, only("")] = None
    # What changes no answer.
    user: str | None = Field(default=None, max_length=512)


def text_completions(request: TextCompletionRequest, program: Program) -> list[Completion]:
    """For each prompt its answers, one after the other. Raises BadRequest."""
    given: Any = request.prompt
    several = isinstance(given, list) and not isinstance(given[0], int)
    prompts: list[str | list[int]] = given if several else [given]
    each = request.n or 1
    if len(prompts) * each > _MOST_ANSWERS:
        raise BadRequest(f"n: at most {_MOST_ANSWERS} answers are given to one request", "n")
    if request.max_tokens == 0 and not request.echo:
        raise BadRequest("max_tokens: must be at least 1, but for an echo", "max_tokens")
    if request.stream and request.echo and request.logprobs is not None:
        raise BadRequest("echo: with logprobs, not supported in a stream", "echo")
    completion = replace(
        request.completion((), program.user, program.source),
        # One is drawn in any case, and left out where none is wanted.
        max_tokens=_TOKENS if request.max_tokens is None else max(1, request.max_tokens),
        logprobs=request.logprobs,
        echo=bool(request.echo),
    )
    return [
        replace(
            completion,
            prompt=valid(prompt) if isinstance(prompt, str) else prompt,
            seed=request.seed_of(number),
        )
        for prompt in prompts
        for number in range(each)
    ]


class TextForm(ChunkForm):
    kind = "text_completion"

    def __init__(self, wish: TextCompletionRequest, completions: Sequence[Completion], model: str) -> None:
        options = wish.stream_options
        super().__init__("cmpl", model, counts=options is not None and options.include_usage)
        self.stream = bool(wish.stream)
        self.completions = completions
        self._prompts = len(completions) // (wish.n or 1)
        self._says = wish.max_tokens != 0
        self._scores = wish.logprobs is not None
        self._told = [NOTHING] * len(completions)

    def whole(self, replies: Sequence[Reply]) -> Mapping[str, Any]:
        choices = [
            self._choice(number, self._of(reply), echo=reply.echo) for number, reply in enumerate(replies)
        ]
        return {**self.head(self.kind), "choices": choices, "usage": self.usage(replies)}

    def grown(self, number: int, reply: Reply) -> Sequence[bytes]:
        told, reply = self._told[number], self._of(reply)
        echo = "" if told.echo else reply.echo
        new = replace(reply, text=reply.text[len(told.text) :], scores=reply.scores[len(told.scores) :])
        self._told[number] = reply
        if not (echo or new.text or new.scores or new.finish_reason):
            return ()
        return (self.chunk(self._choice(number, new, echo=echo)),)

    def usage(self, replies: Sequence[Reply]) -> dict[str, int]:
        return usage_of([self._of(reply) for reply in replies], prompts=self._prompts)

    def _of(self, reply: Reply) -> Reply:
        """Without the one token that was drawn where none was wanted."""
        if self._says:
            return reply
        usage = None if reply.usage is None else replace(reply.usage, completion_tokens=0)
        return replace(reply, text="", thought="", scores=(), usage=usage)

    def _choice(self, number: int, reply: Reply, *, echo: str) -> dict[str, Any]:
        return {
            "index": number,
            "text": echo + reply.text,
            "logprobs": _logprobs(reply) if self._scores else None,
            "finish_reason": None if reply.finish_reason is None else finish_reason(reply),
        }


def _logprobs(reply: Reply) -> dict[str, Any]:
    scores: Sequence[TokenScore] = (*reply.prompt_scores, *reply.scores)
    behind = len(reply.echo)
    return {
        "tokens": [named(score) for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        # The token itself is always among them, as the interface has it.
        "top_logprobs": [
            None if score.logprob is None else {named(each): each.logprob for each in (*score.top, score)}
            for score in scores
        ],
        "text_offset": [
            *(score.start for score in reply.prompt_scores),
            *(behind + score.start for score in reply.scores),
        ],
    }
