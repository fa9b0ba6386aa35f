"""What programs ask, without a conversation that is kept: values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from glmbot.content import ToolCall
from glmbot.forms import Form
from glmbot.keys import UserKey
from glmbot.tools import NO_TOOLS, Offer

__all__ = ["Completion", "TokenScore"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A stateless request: the caller brings the whole history (the OpenAI and ChatGLM-6B HTTP interfaces).

    `turns` are (role, text) pairs, roles "system", "user", "assistant" and "tool", the last one the user's or
    a tool's.
    `trim` lets old turns go when all do not fit; otherwise too long a prompt is refused.
    Values left None are the operator's defaults. `max_total_tokens` bounds prompt and answer together.
    `source` is that of `Message`. `form`: what the answer has to look like. `model`: one of
    `glmbot.ports.Completions.models`; anything else is the default.

    `prompt` instead of turns: a text, or the model's own tokens, to go on from without a template. `logprobs`: so
    many of the likeliest tokens are told with each of the answer, and with each of the prompt to `echo`.
    """

    turns: Sequence[tuple[str, str]]
    user: UserKey
    trim: bool = False
    model: str = ""
    max_tokens: int | None = None
    max_total_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    source: str = ""
    form: Form | None = None
    prompt: str | Sequence[int] | None = None
    echo: bool = False
    logprobs: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    offer: Offer = NO_TOOLS
    """The tools that the answer may call; the caller runs them."""
    calls: Mapping[int, Sequence[ToolCall]] = field(default_factory=dict[int, Sequence[ToolCall]])
    """By the number of an assistant's turn, what it called besides its text."""
    results: Mapping[int, str] = field(default_factory=dict[int, str])
    """By the number of a turn of role "tool", the id of the call that its text is the result of."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """How likely a token was where it stands, and the likeliest ones there: natural logarithms. `text` is "" for
    one that has none of its own; nothing says how likely a prompt's first one was. `start`: where it begins in the
    text of the answer, or of the prompt."""

    token: int
    text: str
    logprob: float | None
    top: tuple[TokenScore, ...] = ()
    start: int = 0
