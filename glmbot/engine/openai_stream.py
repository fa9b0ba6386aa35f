"""The two streaming interfaces of OpenAI-compatible servers: what is sent, and what comes back.

https://platform.openai.com/docs/api-reference/completions and .../chat/streaming. vLLM, SGLang and llama.cpp's
server take token ids as the prompt of a completion; top_k, min_p, the repetition penalty and stop_token_ids are
extensions of theirs, which they name as here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from glmbot.engine.base import FinishReason, Sampling
from glmbot.engine.openai_tools import CallPiece, call_pieces
from glmbot.errors import PromptInvalid
from glmbot.forms import Form, FormKind

__all__ = [
    "Delta",
    "StreamBroken",
    "chat_body",
    "completion_body",
    "on_one_line",
    "read_event",
    "read_models",
    "refusal",
    "valid_text",
]

_LONGEST_REFUSAL = 300
_LONGEST_NAME = 500
_MOST_TOKENS = 10_000_000


class StreamBroken(Exception):
    """The server sent what is no event of this interface, or said that it failed."""


@dataclass(frozen=True, slots=True)
class Delta:
    """New text, and with the last one how it ended. Token counts are None where the server tells none.

    `thought`: what is new of the model's reasoning, where the server keeps that apart.
    """

    text: str = ""
    finish: FinishReason | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    thought: str = ""
    calls: tuple[CallPiece, ...] = ()

    @property
    def says_more(self) -> bool:
        return bool(self.text or self.thought or self.calls)


def completion_body(
    model: str, prompt: Sequence[int], sampling: Sampling, stop_tokens: Sequence[int]
) -> dict[str, Any]:
    """For POST /completions: the model's own tokens, so that no text can become a control token."""
    return {"prompt": list(prompt), "stop_token_ids": list(stop_tokens), **_body(model, sampling)}


def chat_body(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    sampling: Sampling,
    *,
    tools: Mapping[str, Any] | None = None,
    thinks: bool = True,
) -> dict[str, Any]:
    """For POST /chat/completions: the server brings template and tokenizer. tools: the fields that say of them."""
    body = {"messages": list(messages), **(tools or {}), **_body(model, sampling)}
    if sampling.form is not None:
        body["response_format"] = _response_format(sampling.form)
    if not thinks:
        # An extension of vLLM, SGLang and llama.cpp's server: what templates call the switch. Others refuse it.
        body["chat_template_kwargs"] = {"enable_thinking": False, "thinking": False}
    return body


def _response_format(form: Form) -> dict[str, Any]:
    """What all servers of chats know. Raises PromptInvalid."""
    match form.kind:
        case FormKind.JSON:
            return {"type": "json_object"}
        case FormKind.SCHEMA:
            try:
                schema: object = json.loads(form.source)
            except (ValueError, RecursionError):
                raise PromptInvalid("the form of the answer: the schema is no JSON") from None
            return {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            }
        case FormKind.REGEX | FormKind.GRAMMAR:
            raise PromptInvalid(
                f"the form of the answer: a remote server is asked for JSON, not a {form.kind}"
            )


def _body(model: str, sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.repetition_penalty != 1.0:
        # vLLM and SGLang call it by its whole name, llama.cpp by the short one.
        body["repetition_penalty"] = body["repeat_penalty"] = sampling.repetition_penalty
    if sampling.min_p:
        body["min_p"] = sampling.min_p
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def read_event(line: bytes) -> Delta | None:
    """One line of a stream of server-sent events; None for a line that says nothing.

    Raises StreamBroken for an error inside the stream, and for what can't be read.
    """
    text = line.strip()
    if not text.startswith(b"data:"):
        if text.startswith(b"error:"):
            raise StreamBroken(on_one_line(text[6:].decode("utf-8", "replace")))
        return None
    data = text[5:].strip()
    if data == b"[DONE]":
        return None
    try:
        event: Any = json.loads(data)
        if event.get("error"):
            raise StreamBroken(_message_of(event["error"]))
        usage = event.get("usage") or {}
        choices = event.get("choices") or [{}]
        choice = choices[0]
        said = choice.get("delta") or {}
        new = said.get("content") if "delta" in choice else choice.get("text")
        ended = choice.get("finish_reason")
        return Delta(
            text=_text(new),
            finish=None if ended is None else _REASONS.get(ended, FinishReason.STOP),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            cached_tokens=_count((usage.get("prompt_tokens_details") or {}).get("cached_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            thought=_thought(said),
            calls=tuple(map(_valid_piece, call_pieces(said.get("tool_calls")))),
        )
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise StreamBroken(f"no event of this interface: {on_one_line(repr(data))}") from error


def _text(new: Any) -> str:
    """Raises TypeError for what is neither text nor nothing."""
    if new is None:
        return ""
    if not isinstance(new, str):
        raise TypeError("the text of an event is no text")
    return valid_text(new)


def valid_text(text: str) -> str:
    """JSON can carry half a surrogate pair, which no store and no socket takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "")


def _valid_piece(piece: CallPiece) -> CallPiece:
    return replace(piece, name=valid_text(piece.name), arguments=valid_text(piece.arguments))


def _thought(said: Mapping[str, Any]) -> str:
    """DeepSeek, SGLang and llama.cpp's server call it by the longer name, OpenRouter and newer vLLM by the
    shorter; some send both. What is no text there is something else."""
    names = ("reasoning_content", "reasoning")
    return next((_text(said[name]) for name in names if said.get(name) and isinstance(said[name], str)), "")


def _count(told: Any) -> int | None:
    """None, as where a server tells nothing, for what can be no count of tokens."""
    return told if type(told) is int and 0 <= told <= _MOST_TOKENS else None


_REASONS = {"length": FinishReason.LENGTH, "stop": FinishReason.STOP}


def read_models(listed: Any) -> dict[str, int | None]:
    """The names of GET /models in their order, each with its context where the server tells that (vLLM and SGLang
    call it max_model_len, llama.cpp's server meta.n_ctx). What is no entry is left out.

    Raises ValueError for what is no such list.
    """
    entries: Any = cast(dict[str, Any], listed).get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of models")
    models: dict[str, int | None] = {}
    for entry in cast(list[Any], entries):
        fields = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
        name: Any = fields.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            continue
        meta: Any = fields.get("meta")
        inner: Any = cast(dict[str, Any], meta).get("n_ctx") if isinstance(meta, dict) else None
        models[name] = _count(fields.get("max_model_len")) or _count(inner)
    return models


def refusal(body: str) -> str:
    """What a server says in the body of an error, on one line."""
    try:
        fields: Any = json.loads(body)
        return _message_of(fields.get("error", fields))
    except (ValueError, AttributeError, RecursionError):
        return on_one_line(body)


def _message_of(error: Any) -> str:
    if isinstance(error, dict):
        fields = cast(dict[str, Any], error)
        return on_one_line(str(fields.get("message", "") or ", ".join(map(str, fields))))
    return on_one_line(str(error))


def on_one_line(text: str) -> str:
    """What a server said, short and without control characters."""
    beginning = text[: 20 * _LONGEST_REFUSAL].encode("utf-8", "replace").decode()
    line = "".join(char for char in " ".join(beginning.split()) if char.isprintable())
    return line if len(line) <= _LONGEST_REFUSAL else line[:_LONGEST_REFUSAL] + " …"
