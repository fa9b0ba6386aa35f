"""HTTP bodies as messages and completions. Pure; every complaint names the field."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glmbot.messages import Completion, ConversationKey, Message, Role, UserKey

__all__ = [
    "PLATFORM",
    "BadRequest",
    "ChatCompletionRequest",
    "Login",
    "OperatorCommand",
    "PageMessage",
    "chatglm_completion",
    "openai_completion",
    "page_message",
    "parse",
]

PLATFORM = "web"

_M = TypeVar("_M", bound=BaseModel)


class BadRequest(Exception):
    """`field` is the JSON path of what was wrong."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class PageMessage(BaseModel):
    """What the chat page sends. `id` is made by the page, so that sending twice asks once."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9-]{8,64}$")
    conversation: int = Field(ge=1, lt=2**53)
    text: str
    edits: str = Field(default="", max_length=64, description="The id of the question that this rewords.")
    answers: str = Field(
        default="", max_length=64, description="The question whose answer a button is under."
    )


class OperatorCommand(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(pattern=r"^/[a-z]", max_length=10_000)


class Login(BaseModel):
    token: str


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """https://platform.openai.com/docs/api-reference/chat/create, as far as a text model can answer it.

    Fields that ask for something else must be absent or at the value that asks for nothing.
    """

    model: str = ""
    messages: list[_ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = None
    stop: str | list[str] | None = Field(default=None)
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)
    user: str | None = None


class _ChatGlmRequest(BaseModel):
    """The ChatGLM-6B projects' api.py."""

    prompt: str
    history: list[tuple[str, str]] = []
    max_length: int = Field(default=2048, ge=1)
    top_p: float = Field(default=0.7, gt=0, le=1)
    temperature: float = Field(default=0.95, ge=0, le=5)


def parse(model: type[_M], body: bytes) -> _M:
    """Raises BadRequest."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{field}: {first['msg']}" if field else first["msg"], field) from None


def page_message(request: PageMessage, user_id: int, *, language: str, vouched: Role | None) -> Message:
    return Message(
        update_id=f"{user_id}-{request.id}",
        conversation=ConversationKey(PLATFORM, request.conversation, user_id),
        user=UserKey(PLATFORM, user_id),
        text=request.text,
        language=language,
        vouched=vouched,
        ref="" if request.answers else request.edits or request.id,
        edits=bool(request.edits),
        replies_to=request.answers,
        in_place=bool(request.answers),
    )


def openai_completion(request: ChatCompletionRequest, user: UserKey) -> Completion:
    stop = [request.stop] if isinstance(request.stop, str) else (request.stop or [])
    return Completion(
        turns=[
            ("system" if message.role == "developer" else message.role, _valid(message.text))
            for message in request.messages
        ],
        user=user,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        repetition_penalty=request.repetition_penalty,
        seed=request.seed,
        stop=tuple(stop),
    )


def chatglm_completion(body: bytes, user: UserKey) -> tuple[Completion, str, list[tuple[str, str]]]:
    """The completion, and the prompt and history that the response repeats."""
    request = parse(_ChatGlmRequest, body)
    prompt = _valid(request.prompt)
    history = [(_valid(question), _valid(answer)) for question, answer in request.history]
    turns = [pair for question, answer in history for pair in (("user", question), ("assistant", answer))]
    completion = Completion(
        turns=[*turns, ("user", prompt)],
        user=user,
        trim=True,
        max_total_tokens=request.max_length,
        temperature=request.temperature,
        top_p=request.top_p,
    )
    return completion, prompt, history


def _valid(text: str) -> str:
    """JSON can carry half a surrogate pair, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()
