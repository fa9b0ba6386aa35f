"""HTTP bodies as messages and completions. Pure; every complaint names the field."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Ask, Completion, Edit, Intent, Message, Press, Role

__all__ = [
    "LARGEST_BODY",
    "PLATFORM",
    "BadRequest",
    "BranchChoice",
    "ChatCompletionRequest",
    "ChatGlmRequest",
    "Login",
    "OperatorCommand",
    "PageMessage",
    "chatglm_completion",
    "openai_completion",
    "page_id",
    "page_message",
    "parse",
    "parsed",
]

PLATFORM = "web"
LARGEST_BODY = 8 * 2**20

_M = TypeVar("_M", bound=BaseModel)
# As the OpenAI service has it.
_MOST_MESSAGES = 2048
_MOST_PARTS = 256
_MOST_STOPS, _LONGEST_STOP = 16, 256
_LARGEST_COUNT = 2**31 - 1
# What a body of a few hundred bytes takes no time to check, and one of millions of values seconds.
_MOST_VALUES = 32_768
_LARGE_BODY = 64 * 1024
_LONGEST_COMPLAINT = 300
# What JavaScript can hold without loss.
_NUMBERS_BELOW = 2**53
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
# One that does not end goes to the end of the body.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_FIELD = re.compile(r"(?!str$)[a-z_]{1,40}")
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")


def _at_most(most: int) -> BeforeValidator:
    """Before each of a million items is looked at."""

    def check(given: object) -> object:
        if isinstance(given, list) and len(given) > most:
            raise ValueError(f"at most {most}, not {len(given)}")
        return given

    return BeforeValidator(check)


def _only(*values: object) -> BeforeValidator:
    """For what a text model can't do: the values that ask for nothing of it. None always does."""

    def check(given: object) -> object:
        # JSON's true is no 1.
        if given is None or any(given == value and type(given) is type(value) for value in values):
            return None
        raise PydanticCustomError("not_supported", "not supported here")

    return BeforeValidator(check)


class BadRequest(Exception):
    """`field` is the JSON path of what was wrong."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class _Body(BaseModel):
    """Texts are bounded by the body's size, all other things here; NaN and Infinity are no numbers."""

    model_config = ConfigDict(allow_inf_nan=False, hide_input_in_errors=True)


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


class PageMessage(_Body):
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


class BranchChoice(_Body):
    model_config = ConfigDict(extra="forbid")

    conversation: _ConversationId
    turn: int = Field(ge=1, lt=2**53)


class OperatorCommand(_Body):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(pattern=r"^/[a-z]", max_length=10_000)


class Login(_Body):
    token: str = Field(max_length=1000)


class _Part(_Body):
    type: Literal["text"]
    text: str


class _ChatMessage(_Body):
    """Clients send an answer back with all that it came with, so what else stands here is let be."""

    audio: Annotated[None, _only()] = None
    tool_calls: Annotated[None, _only([])] = None
    function_call: Annotated[None, _only()] = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], _at_most(_MOST_PARTS)]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


_Stop = Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]


class _StreamOptions(_Body):
    include_usage: bool = False
    include_obfuscation: Any = None


class ChatCompletionRequest(_Body):
    """https://platform.openai.com/docs/api-reference/chat/create, as far as a text model can answer it.

    What asks for something else is refused by its name, and so is what is not known.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field(default="", max_length=512)
    messages: Annotated[list[_ChatMessage], _at_most(_MOST_MESSAGES)] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=_LARGEST_COUNT)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_LARGEST_COUNT)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=_LARGEST_COUNT)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: _Stop | Annotated[list[_Stop], _at_most(_MOST_STOPS)] | None = None
    n: Annotated[None, _only(1)] = None
    logprobs: Annotated[None, _only(False)] = None
    top_logprobs: Annotated[None, _only(0)] = None
    logit_bias: Annotated[None, _only({})] = None
    presence_penalty: Annotated[None, _only(0, 0.0)] = None
    frequency_penalty: Annotated[None, _only(0, 0.0)] = None
    min_p: Annotated[None, _only(0, 0.0)] = None
    response_format: Annotated[None, _only({"type": "text"})] = None
    tools: Annotated[None, _only([])] = None
    tool_choice: Annotated[None, _only("none", "auto")] = None
    functions: Annotated[None, _only([])] = None
    function_call: Annotated[None, _only("none", "auto")] = None
    modalities: Annotated[None, _only(["text"])] = None
    audio: Annotated[None, _only()] = None
    prediction: Annotated[None, _only()] = None
    web_search_options: Annotated[None, _only()] = None
    reasoning_effort: Annotated[None, _only("none")] = None
    verbosity: Annotated[None, _only("medium")] = None
    # What changes no answer.
    metadata: Any = None
    parallel_tool_calls: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: str | None = Field(default=None, max_length=512)


class ChatGlmRequest(_Body):
    """The ChatGLM-6B projects' api.py, which takes its defaults for null and for 0, too.

    https://github.com/zai-org/ChatGLM-6B/blob/main/api.py
    """

    prompt: str
    history: Annotated[list[tuple[str, str]] | None, _at_most(_MOST_MESSAGES // 2)] = None
    max_length: int | None = Field(default=None, ge=0, le=_LARGEST_COUNT)
    top_p: float | None = Field(default=None, ge=0, le=1)
    temperature: float | None = Field(default=None, ge=0, le=5)


async def parsed(model: type[_M], body: bytes) -> _M:
    """`parse` for a body of any size. Raises BadRequest."""
    return parse(model, body) if len(body) <= _LARGE_BODY else await asyncio.to_thread(parse, model, body)


def parse(model: type[_M], body: bytes) -> _M:
    """Raises BadRequest."""
    if _values(body) > _MOST_VALUES:
        raise BadRequest(f"the body has more than {_MOST_VALUES} values")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Without the names that pydantic gives to the branches of a union.
        named = [part for part in first["loc"] if isinstance(part, int) or _FIELD.fullmatch(part)]
        field = ".".join(str(part) for part in named[:8])
        complaint = "not supported here" if first["type"] == "extra_forbidden" else first["msg"]
        words = f"{field}: {complaint}" if field else complaint
        raise BadRequest(words[:_LONGEST_COMPLAINT], field) from None


def _values(body: bytes) -> int:
    """How many commas a JSON body has outside of texts; counting ends where there are too many."""
    count, at = 0, 0
    for match in _STRING.finditer(body):
        count += body.count(b",", at, match.start())
        at = match.end()
        if count > _MOST_VALUES:
            return count
    return count + body.count(b",", at)


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


def openai_completion(request: ChatCompletionRequest, user: UserKey, source: str) -> Completion:
    stop = [request.stop] if isinstance(request.stop, str) else (request.stop or [])
    return Completion(
        turns=[
            ("system" if message.role == "developer" else message.role, _valid(message.text))
            for message in request.messages
        ],
        user=user,
        source=source,
        model=request.model,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        repetition_penalty=request.repetition_penalty,
        seed=request.seed,
        stop=tuple(stop),
    )


def chatglm_completion(
    request: ChatGlmRequest, user: UserKey, source: str
) -> tuple[Completion, str, list[tuple[str, str]]]:
    """The completion, and the prompt and history that the response repeats."""
    prompt = _valid(request.prompt)
    history = [(_valid(question), _valid(answer)) for question, answer in request.history or ()]
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


def _valid(text: str) -> str:
    """JSON can carry half a surrogate pair, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()
