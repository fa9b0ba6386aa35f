"""An engine whose answers are known beforehand, for where the model is not the point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from glmbot.engine.base import EngineStats, FinishReason, Precision, Progress, Sampling, Waits

__all__ = ["QUESTION", "SAID", "ScriptedEngine"]

QUESTION = "somebody else asks"
SAID = " ".join(f"word{number}" for number in range(1, 9))
_STEP_S = 0.01


class _Format:
    """A character is a token."""

    def encode_chat(self, system: str, turns: Sequence[Any], question: str) -> list[int]:
        past = "".join(f"Q:{turn.question}\nA:{turn.answer}\n" for turn in turns)
        return [ord(char) for char in f"S:{system}\n{past}Q:{question}\nA:"]

    def encode_text(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    encode_begun = encode_text

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def finish_text(self, text: str) -> str:
        return text


class ScriptedEngine:
    """Says SAID, a word at a time, to whoever asks QUESTION, and repeats to everybody else the end of what they asked.
    See `glmbot.engine.base.Engine`."""

    model_name = "scripted"
    context_length = 4_000
    precision = Precision.SERVED
    precisions: Sequence[Precision] = ()

    def __init__(self) -> None:
        self.chat_format: Any = _Format()
        self.generation_defaults: dict[str, object] = {}

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        asked = self.chat_format.decode(prompt).rpartition("Q:")[2]
        if QUESTION not in asked:
            yield Progress(f"You said: {asked[-300:]}", FinishReason.STOP)
            return
        words = SAID.split()
        for count in range(1, len(words)):
            yield Progress(" ".join(words[:count]))
            await asyncio.sleep(_STEP_S)
        yield Progress(SAID, FinishReason.STOP)

    async def set_precision(self, *_: Any) -> Any:
        raise NotImplementedError

    async def forget(self, user: str) -> None: ...

    def stats(self) -> EngineStats:
        waits = Waits((), (), 0, 0.0, None)
        return EngineStats(
            self.model_name, self.precision, 0, 0, 10, 0, 0, 0, 0, 0, 0, waits, 0.0, 1, True
        )  # fmt: skip

    async def close(self) -> None: ...
