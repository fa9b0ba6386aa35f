"""Reading a stateless request, whose caller brings the history, into the terms of the dialogue. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glmbot.engine.base import ChatTurn, Sampling
from glmbot.messages import Completion

__all__ = ["sampling_for", "split_turns"]


def split_turns(turns: Sequence[tuple[str, str]]) -> tuple[str, list[ChatTurn], str]:
    """(role, text) pairs -> (system prompt, past turns, question).

    Texts of one role in a row belong together. Raises ValueError for an unknown role, or when the last word
    is not the user's.
    """
    system: list[str] = []
    questions: list[str] = []
    answers: list[str] = []
    past: list[ChatTurn] = []
    for role, text in turns:
        if role == "system":
            system.append(text)
        elif role == "user":
            if answers:
                past.append(ChatTurn("\n\n".join(questions), "\n\n".join(answers)))
                questions, answers = [], []
            questions.append(text)
        elif role == "assistant":
            answers.append(text)
        else:
            raise ValueError(f"unknown role {role!r}; use system, user or assistant")
    if answers or not questions:
        raise ValueError("the last message must be the user's")
    return "\n\n".join(system), past, "\n\n".join(questions)


def sampling_for(request: Completion, defaults: Sampling, context_length: int) -> Sampling:
    """The operator's defaults with what the request sets. Raises ValueError for a value out of range."""
    wishes = {
        name: value
        for name in ("temperature", "top_p", "top_k", "repetition_penalty", "seed", "max_tokens")
        if (value := getattr(request, name)) is not None
    }
    sampling = replace(defaults, stop=(*defaults.stop, *request.stop), **wishes)
    longest = max(1, min(context_length, request.max_total_tokens or context_length) - 1)
    return replace(sampling, max_tokens=min(sampling.max_tokens, longest))
