"""An engine that says what a test wants: for tests of what becomes of an answer, not of how one is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from glmbot.engine.base import (
    EngineStats,
    FinishReason,
    Precision,
    PrecisionChange,
    Progress,
    Sampling,
    Waits,
)
from glmbot.errors import PrecisionError
from glmbot.models.base import ChatFormat, ChatTurn

__all__ = ["ScriptedEngine", "echoing", "last_question"]


class _Letters:
    """A chat format in which each character is a token."""

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        lines = [f"S:{system}"] if system else []
        for turn in turns:
            lines += [f"Q:{turn.question}", f"A:{turn.answer}"]
        return self.encode_text("\n".join([*lines, f"Q:{question}", "A:"]))

    def encode_text(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def encode_begun(self, answer: str) -> list[int]:
        return self.encode_text(answer)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def finish_text(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


class ScriptedEngine:
    """Says `answer(prompt)` in `steps` snapshots, `step_s` seconds apart; `prompts` are those that it was given.
    The last snapshot comes once `goes_on` is set."""

    model_name = "scripted"
    context_length = 60_000
    generation_defaults: Mapping[str, object] = {}
    precision = Precision.SERVED
    precisions: Sequence[Precision] = ()
    chat_format: ChatFormat = _Letters()

    def __init__(
        self, answer: str | Callable[[str], str] = "ok", *, steps: int = 2, step_s: float = 0.02
    ) -> None:
        self.answer = answer
        self.steps = steps
        self.step_s = step_s
        self.prompts: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        asked = self.chat_format.decode(prompt)
        self.prompts.append(asked)
        text = self.answer if isinstance(self.answer, str) else self.answer(asked)
        for step in range(1, self.steps):
            yield Progress(text[: len(text) * step // self.steps])
            await asyncio.sleep(self.step_s)
        await self.goes_on.wait()
        yield Progress(text, FinishReason.STOP)

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        raise PrecisionError("there is nothing to switch")

    async def forget(self, user: str) -> None: ...

    def stats(self) -> EngineStats:
        asked = len(self.prompts)
        waits = Waits((), (), 0, 0.0, None)
        return EngineStats(
            self.model_name, self.precision, 0, 0, 10, 0, 0, 0, asked, 0, 0, waits, 0.0, 1, alive=True
        )

    async def close(self) -> None: ...


def last_question(prompt: str) -> str:
    return prompt.rpartition("Q:")[2].removesuffix("\nA:")


def echoing(before: str = "answer to ") -> ScriptedEngine:
    """It says the question again, behind these words."""
    return ScriptedEngine(lambda prompt: before + last_question(prompt))
