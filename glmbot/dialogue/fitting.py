"""Prompts for the model that answers here, made beside everybody else's answers however long the texts are."""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.dialogue.off_loop import OffLoop
from glmbot.dialogue.prompt import Prompt, fit
from glmbot.dialogue.settings import DialogueSettings, InForce
from glmbot.engine.base import ChatTurn, Engine
from glmbot.messages import Message
from glmbot.store.base import Store, Turn

__all__ = ["Fitting"]


class Fitting:
    def __init__(self, store: Store, engine: Engine, in_force: InForce) -> None:
        """Raises ValueError when the system prompt leaves no room for a question."""
        self._store = store
        self._engine = engine
        self._in_force = in_force
        self.off_loop = OffLoop()
        self.check(in_force.settings)

    def check(self, settings: DialogueSettings) -> None:
        """Raises ValueError when the system prompt leaves no room for a question."""
        self._fit(settings, (), "", "", "")

    async def fit(
        self, message: Message, turns: Sequence[Turn], question: str, system: str, begun: str = ""
    ) -> Prompt:
        """The prompt for a message's author. Raises EngineError, and ValueError when the system prompt leaves no
        room for a question."""
        settings = self._in_force.settings
        history = sum(len(turn.question) + len(turn.answer) for turn in turns)
        characters = history + len(question) + len(system or settings.system_prompt) + len(begun)
        return await self.off_loop.run(
            str(message.user), characters, lambda: self._fit(settings, turns, question, system, begun)
        )

    async def measure(self, message: Message, system: str) -> tuple[Prompt, int]:
        """For /context: the prompt as it stands without a question, and the tokens kept for the answer."""
        settings = self._in_force.settings
        turns = await self._store.last_turns(message.conversation, settings.turn_limit + 1)
        return await self.fit(message, turns, "", system), settings.sampling.max_tokens

    def _fit(
        self, settings: DialogueSettings, turns: Sequence[Turn], question: str, system: str, begun: str
    ) -> Prompt:
        return fit(
            self._engine.chat_format,
            system=system or settings.system_prompt,
            turns=[ChatTurn(turn.question, turn.answer) for turn in turns],
            question=question,
            budget=self._engine.context_length - settings.sampling.max_tokens,
            turn_limit=settings.turn_limit,
            begun=begun,
        )
