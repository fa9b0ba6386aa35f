"""glmbot's engine on one machine or many, as a Ray Serve application; bots use it as their remote engine.

    pip install glmbot 'ray[serve]'
    serve run deploy.ray_serve:build model=/models/chatglm3-6b replicas=2 gpus=1

and in the bot's configuration

    [remote]
    servers = ["http://THE-HEAD-NODE:8000/v1"]
    tokenizer = "/models/chatglm3-6b"

Each replica holds the model once. Ray puts replicas where there is room, starts them again when they die, and asks
the less busy one; an answer whose replica died goes on at another, which the remote engine sees to. The interface
asks for no key: keep it in a network of your own. https://docs.ray.io/en/latest/serve/
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from glmbot.engine.base import Precision
from glmbot.engine.completions_api import (
    LARGEST_BODY,
    CompletionRefused,
    completion_events,
    detokenized,
    model_list,
)
from glmbot.engine.local import LocalEngine, LocalEngineSettings

__all__ = ["Arguments", "Model", "build"]


class Arguments(BaseModel):
    """What stands behind `serve run deploy.ray_serve:build`. `cpus` and `gpus` are those of one replica."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Path
    replicas: int = Field(default=1, ge=1, le=1024)
    cpus: float = Field(default=1, ge=0, le=1024)
    gpus: float = Field(default=0, ge=0, le=64)
    precision: Precision | None = None
    context_length: int = Field(default=2048, ge=64, le=2**20)
    threads: int = Field(default=0, ge=0, le=1024)


def build(arguments: Arguments) -> serve.Application:
    options = {"num_cpus": arguments.cpus, "num_gpus": arguments.gpus}
    return Model.options(num_replicas=arguments.replicas, ray_actor_options=options).bind(arguments)


@serve.deployment(max_ongoing_requests=80)
class Model:
    async def __init__(self, arguments: Arguments) -> None:
        self._engine = await LocalEngine.start(
            LocalEngineSettings(
                arguments.model,
                precision=arguments.precision,
                context_length=arguments.context_length,
                threads=arguments.threads,
            )
        )

    async def check_health(self) -> None:
        """Called by Ray, which replaces a replica that raises."""
        if not self._engine.stats().alive:
            raise RuntimeError("the model thread has ended")

    async def __call__(self, request: Request) -> Response:
        try:
            match request.method, request.url.path:
                case "GET", "/v1/models":
                    return JSONResponse(model_list(self._engine))
                case "POST", "/detokenize":
                    return JSONResponse(detokenized(self._engine, await _fields(request)))
                case "POST", "/v1/completions":
                    return await self._complete(await _fields(request))
                case _:
                    raise CompletionRefused(404, f"there is no {request.url.path}")
        except CompletionRefused as refused:
            headers = {"Retry-After": str(refused.again_after_s)} if refused.again_after_s else {}
            return JSONResponse(refused.body, refused.status, headers)

    async def _complete(self, fields: dict[str, Any]) -> Response:
        events = completion_events(self._engine, fields)
        # What is wrong with the request comes with the first event, while there is still a status to send.
        first = await anext(events)

        async def all_events() -> AsyncGenerator[bytes, None]:
            try:
                yield first
                async for event in events:
                    yield event
            finally:
                await events.aclose()

        return StreamingResponse(all_events(), media_type="text/event-stream")


async def _fields(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise CompletionRefused(413, f"the body is more than {LARGEST_BODY >> 20} MiB")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CompletionRefused(400, "the body is no JSON") from error
    if not isinstance(fields, dict):
        raise CompletionRefused(400, "the body is no JSON object")
    return fields
