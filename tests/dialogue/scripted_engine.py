"""An engine that says what a test wants, when it wants it: the dialogue's rules without a model's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from glmbot.engine.base import (
    ChatTurn,
    EngineStats,
    FinishReason,
    Precision,
    PrecisionChange,
    Progress,
    Sampling,
    Waits,
)

__all__ = ["CharacterFormat", "ScriptedEngine"]

_AROUND = 3


class CharacterFormat:
    """A token is a character, with three more around each message. Notes what it was asked to encode."""

    def __init__(self) -> None:
        self.prompts: list[list[str]] = []

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        texts = [system, *(text for turn in turns for text in (turn.question, turn.answer)), question]
        texts = texts if system else texts[1:]
        self.prompts.append(texts)
        return [token for text in texts for token in (*range(_AROUND), *self.encode_text(text))]

    def encode_text(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def encode_begun(self, answer: str) -> list[int]:
        return self.encode_text(answer)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token) for token in tokens)

    def finish_text(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


class ScriptedEngine:
    """Says the frames of `says` one after the other. `holds`: an answer waits for it before it begins."""

    model_name = "scripted"
    context_length = 2048
    generation_defaults: dict[str, object] = {}  # noqa: RUF012
    precision = Precision.BF16
    precisions = (Precision.BF16,)

    def __init__(self, *says: str) -> None:
        self.says = says or ("answer",)
        self.holds: asyncio.Event | None = None
        self.fails: Callable[[], None] = lambda: None
        self.chat_format = CharacterFormat()
        self.asked: list[Sequence[int]] = []
        self.running = 0

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        self.asked.append(prompt)
        self.running += 1
        try:
            if self.holds is not None:
                await self.holds.wait()
            beginning = self.chat_format.decode(prompt[len(prompt) - begun :]) if begun else ""
            for number, text in enumerate(self.says, 1):
                finish = FinishReason.STOP if number == len(self.says) else None
                self.fails()
                yield Progress(beginning + text, finish, None, len(prompt), len(text))
        finally:
            self.running -= 1

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        return PrecisionChange(self.precision, precision, 1, 1, 1.0, 1.0, 0.1)

    async def forget(self, user: str) -> None:
        pass

    def stats(self) -> EngineStats:
        waits = Waits((), (), 0, 0.0, None)
        return EngineStats(
            "scripted", self.precision, self.running, 0, 64, 0, 0, 0, 0, 0, 0, waits, 0.0, 0, True
        )

    async def close(self) -> None:
        pass
