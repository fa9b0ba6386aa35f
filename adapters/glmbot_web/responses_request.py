"""What POST /v1/responses takes: https://platform.openai.com/docs/api-reference/responses/create.

Nothing is kept of a request, so what asks for something that was kept, or to keep it, is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag

from glmbot.completions import Completion
from glmbot.content import ToolCall
from glmbot_web.bodies import LARGEST_COUNT, BadRequest, Body, KnownBody, at_most, only, valid
from glmbot_web.forms import TextFormat, form_of_text
from glmbot_web.program import Program
from glmbot_web.tool_forms import OfferedFunctions, ResponseToolChoice, offer_of_functions, tool_call

__all__ = ["ResponsesRequest", "response_completion"]

_MOST_ITEMS = 2048
_MOST_PARTS = 256
_LONGEST_KIND = 64
_SCORES = "message.output_text.logprobs"


class _Part(Body):
    """Of an answer that is sent back; what else it came with is let be."""

    type: Literal["input_text", "output_text"]
    text: str


class _Message(Body):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], at_most(_MOST_PARTS)]

    @property
    def text(self) -> str:
        return _text_of(self.content)


def _text_of(content: str | Sequence[_Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class _Reasoning(Body):
    """It has been thought."""

    type: Literal["reasoning"]


class _FunctionCall(Body):
    """Sent back as it came, or as the program has changed it."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=128)
    name: str = Field(max_length=64)
    arguments: str = "{}"


class _FunctionCallOutput(Body):
    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=128)
    output: str | Annotated[list[_Part], at_most(_MOST_PARTS)]

    @property
    def text(self) -> str:
        return _text_of(self.output)


def _kind(given: object) -> str:
    """What names no type is a message, as OpenAI's client sends it. No field has a space in its name."""
    fields = cast(dict[str, object], given) if isinstance(given, dict) else {}
    kind = fields.get("type", "message")
    return f"item {kind}" if isinstance(kind, str) and len(kind) <= _LONGEST_KIND else "an item"


def _shape(given: object) -> str:
    """Complaints are of the branch that was meant; no field has a space in its name."""
    return "a text" if isinstance(given, str) else "a list"


_Item = Annotated[
    Annotated[_Message, Tag("item message")]
    | Annotated[_Reasoning, Tag("item reasoning")]
    | Annotated[_FunctionCall, Tag("item function_call")]
    | Annotated[_FunctionCallOutput, Tag("item function_call_output")],
    Discriminator(_kind),
]
_Items = Annotated[list[_Item], at_most(_MOST_ITEMS), Field(min_length=1)]
_Input = Annotated[Annotated[str, Tag("a text")] | Annotated[_Items, Tag("a list")], Discriminator(_shape)]


class _TextConfig(KnownBody):
    format: TextFormat | None = None
    verbosity: Annotated[None, only("medium")] = None


class _ReasoningConfig(KnownBody):
    effort: Annotated[None, only("none")] = None
    # Thoughts are told as they are.
    summary: Any = None
    generate_summary: Any = None


class ResponsesRequest(KnownBody):
    """What asks for something that is not done here is refused by its name, and so is what is not known."""

    input: _Input
    model: str = Field(default="", max_length=512)
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20, strict=True)
    include: Annotated[list[str] | None, at_most(16)] = None
    stream: bool | None = None
    text: _TextConfig | None = None
    reasoning: _ReasoningConfig | None = None
    truncation: Annotated[None, only("disabled")] = None
    store: Annotated[None, only(False)] = None
    previous_response_id: Annotated[None, only()] = None
    conversation: Annotated[None, only()] = None
    background: Annotated[None, only(False)] = None
    prompt: Annotated[None, only()] = None
    tools: OfferedFunctions = None
    tool_choice: ResponseToolChoice = None
    parallel_tool_calls: bool | None = None
    # What changes no answer.
    max_tool_calls: Any = None
    metadata: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    stream_options: Any = None
    user: str | None = Field(default=None, max_length=512)

    @property
    def scores(self) -> int | None:
        """How many of the likeliest tokens are told with each; None: no scores are."""
        wanted = _SCORES in (self.include or ()) or self.top_logprobs
        return (self.top_logprobs or 0) if wanted else None


def response_completion(request: ResponsesRequest, program: Program) -> Completion:
    """Raises BadRequest."""
    unknown = next((name for name in request.include or () if name != _SCORES), None)
    if unknown is not None:
        raise BadRequest("include: not supported here", "include")
    turns, calls, results = _turns(request)
    return Completion(
        turns=turns,
        calls=calls,
        results=results,
        user=program.user,
        source=program.source,
        model=request.model,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=request.scores,
        form=form_of_text(request.text.format if request.text else None),
        offer=offer_of_functions(request.tools, request.tool_choice, request.parallel_tool_calls),
    )


def _turns(
    request: ResponsesRequest,
) -> tuple[list[tuple[str, str]], dict[int, Sequence[ToolCall]], dict[int, str]]:
    """What was said, called and came of it, as `Completion` has them. Raises BadRequest."""
    turns = [("system", valid(request.instructions))] if request.instructions else []
    calls: dict[int, list[ToolCall]] = {}
    results: dict[int, str] = {}
    items = request.input
    for number, item in enumerate(
        [_Message(role="user", content=items)] if isinstance(items, str) else items
    ):
        match item:
            case _Message():
                turns.append(("system" if item.role == "developer" else item.role, valid(item.text)))
            case _FunctionCall():
                if not turns or turns[-1][0] != "assistant":
                    turns.append(("assistant", ""))
                call = tool_call(item.call_id, item.name, item.arguments, f"input.{number}")
                calls.setdefault(len(turns) - 1, []).append(call)
            case _FunctionCallOutput():
                results[len(turns)] = valid(item.call_id)
                turns.append(("tool", valid(item.text)))
            case _Reasoning():
                pass
    return turns, dict(calls), results
