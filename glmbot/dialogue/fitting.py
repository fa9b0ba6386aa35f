"""Prompts for the model that answers here, made beside everybody else's answers however long the texts are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from glmbot.content import Content, Text, of_words, words_of
from glmbot.dialogue.models import Talk
from glmbot.dialogue.off_loop import OffLoop
from glmbot.dialogue.settings import DialogueSettings, InForce
from glmbot.engine.base import Conversation, PastExchange, Prepared
from glmbot.engine.pool import Engines
from glmbot.engine.thoughts import answer_of
from glmbot.messages import Message
from glmbot.store.base import Histories
from glmbot.store.content_json import parts_from_json
from glmbot.store.records import Turn

__all__ = ["Fitting"]

_log = logging.getLogger(__name__)


class Fitting:
    def __init__(self, store: Histories, engines: Engines, in_force: InForce) -> None:
        """Raises ValueError when the system prompt leaves no room for a question."""
        self._store = store
        self._engines = engines
        self._in_force = in_force
        self.off_loop = OffLoop()
        self.check(in_force.settings)

    def check(self, settings: DialogueSettings) -> None:
        """Raises ValueError when the system prompt leaves no room for a question to the default model; one that is
        not loaded yet is not asked."""
        talk = self.at_hand(self._engines.default, settings)
        if talk is not None:
            talk.engine.prepare(_conversation(settings, (), "", ""), talk.room)

    def at_hand(self, model: str, settings: DialogueSettings | None = None) -> Talk | None:
        """None for a model that is not loaded."""
        engine = self._engines.engine(model)
        settings = settings or self._in_force.settings
        return None if engine is None else Talk(engine, settings.sampling_of(model, engine))

    async def check_prompt(self, message: Message, system: str) -> None:
        """Raises ValueError when this system prompt leaves no room for a question to some model that is loaded."""
        for model in self._engines.names:
            talk = self.at_hand(model)
            if talk is not None:
                await self.fit(message, talk, (), "", system)

    async def fit(
        self, message: Message, talk: Talk, turns: Sequence[Turn], question: str, system: str, begun: str = ""
    ) -> Prepared:
        """The prompt for a message's author. Raises EngineError, and ValueError when the system prompt leaves no
        room for a question."""
        conversation = _conversation(self._in_force.settings, turns, question, system, begun)
        return await self.off_loop.run(
            str(message.user),
            conversation.characters,
            lambda: talk.engine.prepare(conversation, talk.room),
        )

    async def measure(self, message: Message, talk: Talk, system: str) -> Prepared:
        """For /context: the prompt as it stands without a question."""
        settings = self._in_force.settings
        turns = await self._store.last_turns(message.conversation, settings.turn_limit + 1)
        return await self.fit(message, talk, turns, "", system)


def _conversation(
    settings: DialogueSettings, turns: Sequence[Turn], question: str, system: str, begun: str = ""
) -> Conversation:
    return Conversation(
        asked=of_words(question),
        past=_told(turns),
        system=system or settings.system_prompt,
        begun=begun,
        turn_limit=settings.turn_limit,
    )


def _told(turns: Sequence[Turn]) -> Sequence[PastExchange]:
    """Without thoughts, which earlier releases kept in the answers; some are nothing else, cut by their limit."""
    told = ((turn, answer_of(turn.answer)) for turn in turns)
    return [_exchange(turn, answer) for turn, answer in told if answer or not turn.answer]


def _exchange(turn: Turn, answer: str) -> PastExchange:
    asked: Content = ()
    said: Content = ()
    try:
        asked, said = parts_from_json(turn.parts)
    except ValueError as error:
        _log.error("the parts of turn %d are damaged, and its words are told alone: %s", turn.id, error)
    return PastExchange(_with_words(asked, turn.question), _with_words(said, answer))


def _with_words(content: Content, words: str) -> Content:
    """Those of the turn hold: a step may have named nothing but calls and results, or a part of what was said."""
    if words_of(content) == words:
        return content
    return (*(part for part in content if not isinstance(part, Text)), *of_words(words))
