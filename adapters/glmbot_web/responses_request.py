"""What POST /v1/responses takes: https://platform.openai.com/docs/api-reference/responses/create.

Nothing is kept of a request, so what asks for something that was kept, or to keep it, is refused by its name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from glmbot.completions import Completion
from glmbot_web.bodies import LARGEST_COUNT, BadRequest, Body, at_most, only, valid
from glmbot_web.forms import TextFormat, form_of_text
from glmbot_web.program import Program

__all__ = ["ResponsesRequest", "response_completion"]

_MOST_ITEMS = 2048
_MOST_PARTS = 256
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
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class _Reasoning(Body):
    """It has been thought."""

    type: Literal["reasoning"]


class _TextConfig(Body):
    model_config = ConfigDict(extra="forbid")

    format: TextFormat | None = None
    verbosity: Annotated[None, only("medium")] = None


class _ReasoningConfig(Body):
    model_config = ConfigDict(extra="forbid")

    effort: Annotated[None, only("none")] = None
    # Thoughts are told as they are.
    summary: Any = None
    generate_summary: Any = None


class ResponsesRequest(Body):
    """What asks for something that is not done here is refused by its name, and so is what is not known."""

    model_config = ConfigDict(extra="forbid")

    input: str | Annotated[list[_Message | _Reasoning], at_most(_MOST_ITEMS), Field(min_length=1)]
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
    tools: Annotated[None, only([])] = None
    tool_choice: Annotated[None, only("none", "auto")] = None
    # What changes no answer.
    max_tool_calls: Any = None
    metadata: Any = None
    parallel_tool_calls: Any = None
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
    turns = [("system", valid(request.instructions))] if request.instructions else []
    if isinstance(request.input, str):
        turns.append(("user", valid(request.input)))
    else:
        turns += [
            ("system" if item.role == "developer" else item.role, valid(item.text))
            for item in request.input
            if isinstance(item, _Message)
        ]
    return Completion(
        turns=turns,
        user=program.user,
        source=program.source,
        model=request.model,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=request.scores,
        form=form_of_text(request.text.format if request.text else None),
    )
