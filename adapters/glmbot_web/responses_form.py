"""Answers of POST /v1/responses: https://platform.openai.com/docs/api-reference/responses/object, and the typed
events of its streams: https://platform.openai.com/docs/api-reference/responses-streaming."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from glmbot.completions import Completion, TokenScore
from glmbot.content import ToolCall
from glmbot.messages import Reply, Usage
from glmbot_web.chat_form import scored_tokens
from glmbot_web.choices import NOTHING
from glmbot_web.openai_errors import Failure
from glmbot_web.openai_form import Form, finish_reason
from glmbot_web.responses_request import ResponsesRequest

__all__ = ["ResponsesForm"]


class ResponsesForm(Form):
    def __init__(self, wish: ResponsesRequest, completion: Completion, model: str) -> None:
        self.stream = bool(wish.stream)
        self.completions = [completion]
        self._wish = wish
        self._model = model
        self._id, self._created = f"resp_{uuid4().hex}", int(time.time())
        self._thought_id, self._message_id = f"rs_{uuid4().hex}", f"msg_{uuid4().hex}"
        self._told = NOTHING
        self._items: list[str] = []
        """Ids of what a stream has begun, in their order."""
        self._events = 0

    def whole(self, replies: Sequence[Reply]) -> Mapping[str, Any]:
        (reply,) = replies
        # What a model thought once it had begun to answer is in no item of a stream.
        thinks = bool(reply.thought) and (not self._items or self._thought_id in self._items)
        reason, status = finish_reason(reply), _status(reply)
        used = reply.usage or Usage()
        return {
            **self._response(status),
            "output": [
                *([self._thought(reply)] if thinks else []),
                *([self._message(reply, status)] if _says(reply) else []),
                *(self._call(call, status) for call in reply.calls),
            ],
            "incomplete_details": None
            if status == "completed"
            else {"reason": "content_filter" if reason == "content_filter" else "max_output_tokens"},
            "usage": {
                "input_tokens": used.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": used.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": used.prompt_tokens + used.completion_tokens,
            },
        }

    def opening(self) -> Sequence[bytes]:
        response = self._response("in_progress")
        return [self._event(f"response.{what}", response=response) for what in ("created", "in_progress")]

    def grown(self, number: int, reply: Reply) -> Sequence[bytes]:
        told, events = self._told, list[bytes]()
        if len(reply.thought) > len(told.thought) and self._message_id not in self._items:
            if not self._items:
                events += self._begin(self._thought_id, self._thought(NOTHING), _thought_part(""))
            delta = reply.thought[len(told.thought) :]
            events.append(self._part("response.reasoning_text.delta", self._thought_id, delta=delta))
        ended = reply.finish_reason is not None
        if _says(reply):
            if self._message_id not in self._items:
                events += self._end_thought(reply)
                empty = self._message(NOTHING, "in_progress")
                events += self._begin(self._message_id, empty, _text_part("", ()))
            if len(reply.text) > len(told.text):
                events.append(
                    self._part(
                        "response.output_text.delta",
                        self._message_id,
                        delta=reply.text[len(told.text) :],
                        logprobs=scored_tokens(reply.scores[len(told.scores) :]),
                    )
                )
        self._told = reply
        return [*events, *self._end(reply)] if ended else events

    def closing(self, replies: Sequence[Reply]) -> Sequence[bytes]:
        response = self.whole(replies)
        return (self._event(f"response.{response['status']}", response=response),)

    def failed(self, failure: Failure) -> Sequence[bytes]:
        code = "rate_limit_exceeded" if failure.status == 429 else "server_error"
        error = {"code": code, "message": failure.message}
        return (self._event("response.failed", response={**self._response("failed"), "error": error}),)

    def _begin(self, item_id: str, item: Mapping[str, Any], part: Mapping[str, Any]) -> list[bytes]:
        self._items.append(item_id)
        index = len(self._items) - 1
        return [
            self._event("response.output_item.added", output_index=index, item={**item, "content": []}),
            self._part("response.content_part.added", item_id, part=part),
        ]

    def _end_thought(self, reply: Reply) -> list[bytes]:
        if not self._items:
            return []
        item, told = self._thought(reply), reply.thought
        return [
            self._part("response.reasoning_text.done", self._thought_id, text=told),
            self._part("response.content_part.done", self._thought_id, part=_thought_part(told)),
            self._event("response.output_item.done", output_index=0, item=item),
        ]

    def _end(self, reply: Reply) -> list[bytes]:
        """Calls come when they are whole."""
        events = self._end_message(reply) if _says(reply) else self._end_thought(reply)
        for call in reply.calls:
            item = self._call(call, _status(reply))
            self._items.append(item["id"])
            place = {"item_id": item["id"], "output_index": len(self._items) - 1}
            begun = {**item, "arguments": "", "status": "in_progress"}
            index, kind = place["output_index"], "response.function_call_arguments"
            events += (
                self._event("response.output_item.added", output_index=index, item=begun),
                self._event(f"{kind}.delta", **place, delta=call.arguments),
                self._event(f"{kind}.done", **place, name=call.name, arguments=call.arguments),
                self._event("response.output_item.done", output_index=index, item=item),
            )
        return events

    def _end_message(self, reply: Reply) -> list[bytes]:
        item = self._message(reply, _status(reply))
        (part,) = item["content"]
        of_text = {"text": reply.text, "logprobs": part["logprobs"]}
        return [
            self._part("response.output_text.done", self._message_id, **of_text),
            self._part("response.content_part.done", self._message_id, part=part),
            self._event("response.output_item.done", output_index=len(self._items) - 1, item=item),
        ]

    def _part(self, kind: str, item_id: str, **fields: Any) -> bytes:
        index = self._items.index(item_id)
        return self._event(kind, item_id=item_id, output_index=index, content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        numbered = {"type": kind, "sequence_number": self._events, **fields}
        self._events += 1
        return f"event: {kind}\ndata: {json.dumps(numbered)}\n\n".encode()

    def _thought(self, reply: Reply) -> dict[str, Any]:
        return {
            "id": self._thought_id,
            "type": "reasoning",
            "summary": [],
            "content": [_thought_part(reply.thought)],
        }

    def _call(self, call: ToolCall, status: str) -> dict[str, Any]:
        return {
            "id": f"fc_{self._id.removeprefix('resp_')}{call.id}",
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }

    def _message(self, reply: Reply, status: str) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_text_part(reply.text, reply.scores)],
        }

    def _response(self, status: str) -> dict[str, Any]:
        wish = self._wish
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": wish.instructions,
            "max_output_tokens": wish.max_output_tokens,
            "metadata": {},
            "model": self._model,
            "output": [],
            "parallel_tool_calls": wish.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": wish.temperature,
            "text": {"format": _format(wish)},
            "tool_choice": _dumped(wish.tool_choice) or "auto",
            "tools": [_dumped(tool) for tool in wish.tools or ()],
            "top_logprobs": wish.scores or 0,
            "top_p": wish.top_p,
            "truncation": "disabled",
            "usage": None,
        }


def _says(reply: Reply) -> bool:
    """Whether there is a message: of an answer that does nothing but call there is none."""
    return bool(reply.text) or (reply.finish_reason is not None and not reply.calls)


def _status(reply: Reply) -> str:
    return "completed" if finish_reason(reply) in ("stop", "tool_calls") else "incomplete"


def _format(wish: ResponsesRequest) -> dict[str, Any]:
    asked = wish.text.format if wish.text else None
    return {"type": "text"} if asked is None else asked.model_dump(by_alias=True, exclude_unset=True)


def _dumped(wished: BaseModel | str | None) -> Any:
    """As it came."""
    return wished.model_dump() if isinstance(wished, BaseModel) else wished


def _text_part(text: str, scores: Sequence[TokenScore]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": scored_tokens(scores)}


def _thought_part(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}
