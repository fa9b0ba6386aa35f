"""How likely a token was: a value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Score"]


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a token was where it stands, and which ones were likeliest there: natural logarithms, of the
    model's own distribution before temperature, penalties and what else is done for drawing. As OpenAI's service
    and vLLM (logprobs_mode "raw_logprobs") have it.

    `start`: where in the text of the answer it begins. A prompt's first token has no `logprob`.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    start: int = 0
