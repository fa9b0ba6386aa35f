"""Errors in the form of the OpenAI interface: what a program is told of ours."""

from __future__ import annotations

from math import ceil
from typing import Any, NamedTuple

from aiohttp import web

from glmbot.errors import (
    CallMissing,
    ContentRefused,
    EngineError,
    EngineStopped,
    LimitReached,
    ModelUnavailable,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)

__all__ = ["Failure", "error_fields", "failure", "openai_error", "refused"]


class Failure(NamedTuple):
    """`wait_s`: when it is worth trying again; 0: nobody knows."""

    status: int
    message: str
    code: str | None = None
    wait_s: float = 0.0


def failure(error: Exception) -> Failure | None:
    """What a program is told of an error of ours; None for what is none of these."""
    match error:
        case ContentRefused():
            return Failure(400, str(error), "content_filter")
        case PromptTooLong():
            # OpenAI's own words, by which clients (litellm, crewAI) know to shorten what they send.
            words = f"This model's maximum context length is {error.limit} tokens. However, {error}."
            return Failure(400, words, "context_length_exceeded")
        case PromptInvalid():
            return Failure(400, str(error), "invalid_prompt")
        case QueueFull():
            return Failure(429, str(error), "queue_full", error.again_after_s)
        case LimitReached():
            return Failure(429, str(error), "rate_limit_exceeded", error.wait_s)
        case EngineStopped():
            return Failure(503, str(error), "stopping")
        case ServerUnavailable():
            return Failure(503, str(error), "unavailable")
        case ModelUnavailable():
            return Failure(503, str(error), "model_unavailable")
        case CallMissing():
            return Failure(502, str(error), "tool_call_missing")
        case EngineError():
            return Failure(500, str(error), "engine")
        case ValueError():
            return Failure(400, str(error))
        case _:
            return None


def error_fields(failed: Failure) -> dict[str, Any]:
    """For one in the middle of a stream."""
    return {"message": failed.message, "type": _kind(failed.status), "code": failed.code, "param": None}


def refused(failed: Failure) -> web.Response:
    headers = {"Retry-After": str(max(1, ceil(failed.wait_s)))} if failed.wait_s else None
    return openai_error(failed.status, failed.message, code=failed.code, headers=headers)


def openai_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    error = {"message": message, "type": _kind(status), "param": param, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _kind(status: int) -> str:
    return {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
