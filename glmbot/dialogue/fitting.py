"""Prompts for the model that answers here, made beside everybody else's answers however long the texts are."""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.dialogue.off_loop import OffLoop
from glmbot.dialogue.settings import DialogueSettings, InForce
from glmbot.engine.base import ChatTurn, Conversation, Engine, Prepared
from glmbot.engine.thoughts import answer_of
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
        self._engine.prepare(_conversation(settings, (), "", ""), self._room(settings))

    async def fit(
        self, message: Message, turns: Sequence[Turn], question: str, system: str, begun: str = ""
    ) -> Prepared:
        """The prompt for a message's author. Raises EngineError, and ValueError when the system prompt leaves no
        room for a question."""
        engine, settings = self._engine, self._in_force.settings
        conversation = _conversation(settings, turns, question, system, begun)
        room = self._room(settings)
        return await self.off_loop.run(
            str(message.user), conversation.characters, lambda: engine.prepare(conversation, room)
        )

    async def measure(self, message: Message, system: str) -> tuple[Prepared, int]:
        """For /context: the prompt as it stands without a question, and the tokens kept for the answer."""
        settings = self._in_force.settings
        turns = await self._store.last_turns(message.conversation, settings.turn_limit + 1)
        return await self.fit(message, turns, "", system), settings.sampling.max_tokens

    def _room(self, settings: DialogueSettings) -> int:
        """Tokens for a prompt."""
        return self._engine.context_length - settings.sampling.max_tokens


def _conversation(
    settings: DialogueSettings, turns: Sequence[Turn], question: str, system: str, begun: str = ""
) -> Conversation:
    return Conversation(
        question=question,
        turns=_told(turns),
        system=system or settings.system_prompt,
        begun=begun,
        turn_limit=settings.turn_limit,
    )


def _told(turns: Sequence[Turn]) -> Sequence[ChatTurn]:
    """Without thoughts, which earlier releases kept in the answers; some are nothing else, cut by their limit."""
    made = [ChatTurn(turn.question, answer_of(turn.answer)) for turn in turns]
    return [told for told, turn in zip(made, turns, strict=True) if told.answer or not turn.answer]
