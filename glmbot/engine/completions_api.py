"""An engine as a server of the completions interface, so that bots elsewhere can use it as their remote one.

Tokens in, text out, streamed: POST /v1/completions as in https://platform.openai.com/docs/api-reference/completions,
with top_k and repetition_penalty besides, and `begun`: so many tokens at the prompt's end are the beginning of the
answer, whose spaces the tokenizer then keeps. The web framework is whoever's: here are only bytes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator

from glmbot.engine.base import MOST_STOP_TEXTS, FinishReason, Progress, Sampling, TokenEngine
from glmbot.errors import EngineError, PromptInvalid, PromptTooLong, QueueFull

__all__ = ["LARGEST_BODY", "CompletionRefused", "completion_events", "detokenized", "model_list"]


LARGEST_BODY = 4 << 20
"""Bytes of a request; whoever reads it refuses more with 413."""
_LONGEST_USER = 256
_MOST_DETOKENIZED = 100_000


class CompletionRefused(Exception):
    """`status` and `body` of the HTTP answer; `again_after_s` for its Retry-After."""

    def __init__(self, status: int, words: str, again_after_s: int | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.body: dict[str, Any] = {"error": {"message": words, "code": status}}
        self.again_after_s = again_after_s


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    prompt: Annotated[list[int], FailFast()] = Field(min_length=1)
    max_tokens: int = Field(default=16, ge=1)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] | str | None = None
    stream: bool = False
    begun: int = Field(default=0, ge=0)
    user: str = Field(default="", max_length=_LONGEST_USER)

    @field_validator("stop", mode="before")
    @classmethod
    def _few(cls, stop: Any) -> Any:
        if isinstance(stop, list) and len(cast(list[Any], stop)) > MOST_STOP_TEXTS:
            raise ValueError(f"must be at most {MOST_STOP_TEXTS} texts")
        return stop


def model_list(engine: TokenEngine) -> dict[str, Any]:
    """For GET /v1/models."""
    model = {"id": engine.model_name, "object": "model", "max_model_len": engine.context_length}
    return {"object": "list", "data": [model]}


def detokenized(engine: TokenEngine, fields: Mapping[str, Any]) -> dict[str, str]:
    """For POST /detokenize. Raises CompletionRefused."""
    tokens: Any = fields.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in cast(list[Any], tokens)):
        raise CompletionRefused(400, "tokens must be a list of numbers")
    ids = cast(list[int], tokens)
    if len(ids) > _MOST_DETOKENIZED:
        raise CompletionRefused(
            400, f"tokens are {len(ids)}, and at most {_MOST_DETOKENIZED} are taken at once"
        )
    if not all(0 <= token < 2**31 for token in ids):
        raise CompletionRefused(400, "tokens must be numbers from 0 to 2147483647")
    try:
        return {"prompt": engine.chat_format.decode(ids)}
    except (ValueError, LookupError, OverflowError, TypeError) as error:
        raise CompletionRefused(400, "tokens must be those of the model") from error


async def completion_events(engine: TokenEngine, fields: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    """The lines of a server-sent event stream. What is wrong with the request is raised with the first of them.

    Raises CompletionRefused.
    """
    prompt: Any = fields.get("prompt")
    limit = engine.context_length
    if isinstance(prompt, list) and len(cast(list[Any], prompt)) > limit:
        # Before each of them is looked at.
        raise CompletionRefused(400, str(PromptTooLong(len(cast(list[Any], prompt)), limit)))
    request, sampling = _read(fields)
    if not request.stream:
        raise CompletionRefused(400, "only streams are served here; set stream")
    seen = _Seen(engine.model_name)
    generation = engine.generate(
        request.prompt, sampling, user=request.user, begun=min(request.begun, len(request.prompt))
    )
    looked_at = False
    try:
        async for progress in generation:
            if not looked_at and request.begun:
                # Only now the engine has seen that these are tokens of the model.
                begun = engine.chat_format.decode(request.prompt[-request.begun :])
                seen.text = engine.chat_format.finish_text(begun)
            looked_at = True
            yield seen.event(progress)
    except QueueFull as error:
        raise CompletionRefused(503, str(error), error.again_after_s) from error
    except (PromptTooLong, PromptInvalid) as error:
        raise CompletionRefused(400, str(error)) from error
    except EngineError as error:
        if not seen.started:
            raise CompletionRefused(503, str(error)) from error
        yield _event({"error": {"message": str(error)}})
    else:
        yield b"data: [DONE]\n\n"
    finally:
        await generation.aclose()


def _read(fields: Mapping[str, Any]) -> tuple[_Request, Sampling]:
    try:
        request = _Request.model_validate(fields)
        stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
        return request, Sampling(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            repetition_penalty=request.repetition_penalty,
            seed=request.seed,
            stop=tuple(stop),
        )
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise CompletionRefused(400, "; ".join(problems[:5])) from error
    except ValueError as error:
        raise CompletionRefused(400, str(error)) from error


@dataclass(slots=True)
class _Seen:
    """What the client has of the text; events carry what is new."""

    model: str
    text: str = ""
    started: bool = False

    def event(self, progress: Progress) -> bytes:
        if not self.started and progress.place is not None:
            # A comment keeps the connection alive while the request waits.
            return b": waiting\n\n"
        self.started = True
        new = ""
        if progress.text.startswith(self.text):
            new, self.text = progress.text[len(self.text) :], progress.text
        choice: dict[str, Any] = {"index": 0, "text": new, "finish_reason": None}
        event: dict[str, Any] = {"object": "text_completion", "model": self.model, "choices": [choice]}
        if progress.finish is not None:
            choice["finish_reason"] = str(
                FinishReason.LENGTH if progress.finish is FinishReason.DEADLINE else progress.finish
            )
            event["usage"] = {
                "prompt_tokens": progress.prompt_tokens,
                "completion_tokens": progress.completion_tokens,
                "total_tokens": progress.prompt_tokens + progress.completion_tokens,
            }
        return _event(event)


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
