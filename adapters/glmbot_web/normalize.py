"""HTTP bodies as messages and completions. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from glmbot.completions import Completion
from glmbot.content import ToolCall
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Ask, Edit, Intent, Message, Press, Role
from glmbot_web.bodies import (
    LARGEST_COUNT,
    BadRequest,
    Body,
    DrawingBody,
    StreamOptions,
    at_most,
    only,
    parse,
    valid,
)
from glmbot_web.forms import ResponseFormat, StructuredOutputs, form_of
from glmbot_web.tool_forms import CalledTool, OfferedTools, ToolChoice, call_of, offer_of

__all__ = [
    "PLATFORM",
    "BadRequest",
    "BranchChoice",
    "ChatCompletionRequest",
    "ChatGlmRequest",
    "Login",
    "OperatorCommand",
    "PageMessage",
    "PanelWish",
    "chatglm_completion",
    "openai_completions",
    "page_id",
    "page_message",
    "parse",
]

PLATFORM = "web"

# As the OpenAI service has it.
_MOST_MESSAGES = 2048
_MOST_PARTS = 256
_MOST_CALLS = 128
# What JavaScript can hold without loss.
_NUMBERS_BELOW = 2**53
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")


def _as_id(given: object) -> object:
    """Pages of before, and this one where it makes the id, have a number."""
    if type(given) is int and 1 <= given < _NUMBERS_BELOW:
        return str(given)
    if isinstance(given, str):
        return ConversationKey(PLATFORM, given).chat
    raise PydanticCustomError("no_id", "must be text, or a whole number from 1 on")


def page_id(chat: str) -> int | str:
    """A conversation's id as the page has it: the number that it gave, or text."""
    return int(chat) if _WHOLE_NUMBER.fullmatch(chat) and int(chat) < _NUMBERS_BELOW else chat


_ConversationId = Annotated[str, BeforeValidator(_as_id)]


class PageMessage(Body):
    """What the chat page sends. `id` is made by the page, so that sending twice asks once."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9-]{8,64}$")
    conversation: _ConversationId
    text: str
    edits: str = Field(
        default="", pattern=r"^[A-Za-z0-9-]{0,64}$", description="The id of the question that this rewords."
    )
    answers: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="The question whose answer a button is under.",
    )


class BranchChoice(Body):
    model_config = ConfigDict(extra="forbid")

    conversation: _ConversationId
    turn: int = Field(ge=1, lt=2**53)


class OperatorCommand(Body):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(pattern=r"^/[a-z]", max_length=10_000)


class PanelWish(Body):
    """Its fields are the plug-in's."""

    model_config = ConfigDict(extra="allow")


class Login(Body):
    token: str = Field(max_length=1000)


class _Part(Body):
    type: Literal["text"]
    text: str


class _ChatMessage(Body):
    """Clients send an answer back with all that it came with, so what else stands here is let be."""

    audio: Annotated[None, only()] = None
    tool_calls: Annotated[list[CalledTool] | None, at_most(_MOST_CALLS)] = None
    tool_call_id: str | None = Field(default=None, max_length=128)
    function_call: Annotated[None, only()] = None
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[_Part], at_most(_MOST_PARTS)] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


class ChatCompletionRequest(DrawingBody):
    """https://platform.openai.com/docs/api-reference/chat/create, as far as a text model can answer it.

    What asks for something else is refused by its name, and so is what is not known.
    """

    model_config = ConfigDict(extra="forbid")

    messages: Annotated[list[_ChatMessage], at_most(_MOST_MESSAGES)] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20, strict=True)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    tools: OfferedTools = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[None, only([])] = None
    function_call: Annotated[None, only("none", "auto")] = None
    modalities: Annotated[None, only(["text"])] = None
    audio: Annotated[None, only()] = None
    prediction: Annotated[None, only()] = None
    web_search_options: Annotated[None, only()] = None
    reasoning_effort: Annotated[None, only("none")] = None
    verbosity: Annotated[None, only("medium")] = None
    # What changes no answer.
    metadata: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: str | None = Field(default=None, max_length=512)


class ChatGlmRequest(Body):
    """The ChatGLM-6B projects' api.py, which takes its defaults for null and for 0, too.

    https://github.com/zai-org/ChatGLM-6B/blob/main/api.py
    """

    prompt: str
    history: Annotated[list[tuple[str, str]] | None, at_most(_MOST_MESSAGES // 2)] = None
    max_length: int | None = Field(default=None, ge=0, le=LARGEST_COUNT)
    top_p: float | None = Field(default=None, ge=0, le=1)
    temperature: float | None = Field(default=None, ge=0, le=5)


def page_message(
    request: PageMessage, user_id: str, *, language: str, vouched: Role | None, source: str
) -> Message:
    return Message(
        update_id=f"{user_id}-{request.id}",
        conversation=ConversationKey(PLATFORM, request.conversation, user_id),
        user=UserKey(PLATFORM, user_id),
        text=request.text,
        language=language if _LANGUAGE.fullmatch(language) else "",
        vouched=vouched,
        source=source,
        ref="" if request.answers else request.edits or request.id,
        intent=_intent(request),
    )


def _intent(request: PageMessage) -> Intent:
    if request.answers:
        return Press(request.answers)
    return Edit() if request.edits else Ask()


def openai_completions(request: ChatCompletionRequest, user: UserKey, source: str) -> list[Completion]:
    """One for each of the answers that are wanted. Raises BadRequest."""
    if request.top_logprobs and not request.logprobs:
        raise BadRequest("top_logprobs: only with logprobs", "top_logprobs")
    completion = _completion(request, user, source)
    return [replace(completion, seed=request.seed_of(number)) for number in range(request.n or 1)]


def _completion(request: ChatCompletionRequest, user: UserKey, source: str) -> Completion:
    calls, results = _called(request.messages)
    turns = [
        ("system" if message.role == "developer" else message.role, valid(message.text))
        for message in request.messages
    ]
    return replace(
        request.completion(turns, user, source),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        form=form_of(request.response_format, request.structured_outputs),
        offer=offer_of(request.tools, request.tool_choice, request.parallel_tool_calls),
        calls=calls,
        results=results,
    )


def _called(messages: Sequence[_ChatMessage]) -> tuple[dict[int, Sequence[ToolCall]], dict[int, str]]:
    """What assistants called, and which calls the results are of. Raises BadRequest."""
    calls: dict[int, Sequence[ToolCall]] = {}
    results: dict[int, str] = {}
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if message.role == "tool":
            if not message.tool_call_id:
                raise BadRequest(f"{where}.tool_call_id: must be that of a call", f"{where}.tool_call_id")
            results[number] = valid(message.tool_call_id)
        elif message.tool_calls and message.role != "assistant":
            raise BadRequest(f"{where}.tool_calls: only an assistant calls", f"{where}.tool_calls")
        elif message.tool_calls:
            calls[number] = [
                call_of(call, f"{where}.tool_calls.{place}") for place, call in enumerate(message.tool_calls)
            ]
        elif message.content is None:
            raise BadRequest(f"{where}.content: must be text", f"{where}.content")
    return calls, results


def chatglm_completion(
    request: ChatGlmRequest, user: UserKey, source: str
) -> tuple[Completion, str, list[tuple[str, str]]]:
    """The completion, and the prompt and history that the response repeats."""
    prompt = valid(request.prompt)
    history = [(valid(question), valid(answer)) for question, answer in request.history or ()]
    turns = [pair for question, answer in history for pair in (("user", question), ("assistant", answer))]
    completion = Completion(
        turns=[*turns, ("user", prompt)],
        user=user,
        source=source,
        trim=True,
        max_total_tokens=request.max_length or 2048,
        temperature=request.temperature or 0.95,
        top_p=request.top_p or 0.7,
    )
    return completion, prompt, history
