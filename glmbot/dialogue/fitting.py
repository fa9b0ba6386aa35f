"""Prompts for the model that answers here, made beside everybody else's answers however long the texts are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from glmbot.content import Content, Text, ToolResult, all_words_of, of_words, words_of
from glmbot.dialogue.models import Talk
from glmbot.dialogue.off_loop import OffLoop
from glmbot.dialogue.settings import DialogueSettings, InForce
from glmbot.engine.base import Conversation, PastExchange, Prepared
from glmbot.engine.pool import Engines
from glmbot.engine.thoughts import answer_of
from glmbot.errors import EngineError
from glmbot.messages import Message
from glmbot.store.base import Histories
from glmbot.store.content_json import parts_from_json
from glmbot.store.records import Turn
from glmbot.tools import NO_TOOLS, Offer

__all__ = ["Fitting", "prompt_on"]

_log = logging.getLogger(__name__)

_TRIES = 8
# Of a result that is cut, in front of what is said of the cut.
_LEAST_KEPT = 200
_LEFT_OUT = "\n[The rest is left out: there is no room for it.]"


def prompt_on(platform: str, settings: DialogueSettings) -> str:
    """The configured system prompt of the bot there."""
    persona = settings.personas.get(platform)
    return (persona is not None and persona.system_prompt) or settings.system_prompt


class Fitting:
    def __init__(self, store: Histories, engines: Engines, in_force: InForce) -> None:
        """Raises ValueError as `check`."""
        self._store = store
        self._engines = engines
        self._in_force = in_force
        self.off_loop = OffLoop()
        self.check(in_force.settings)

    def check(self, settings: DialogueSettings) -> None:
        """Raises ValueError when a system prompt leaves no room for a question to the model that answers there, if
        that is loaded, and when there is no such model."""
        self._check("[dialogue]", self._engines.default, settings.system_prompt, settings)
        for platform, persona in settings.personas.items():
            model = self._engines.find(persona.model) if persona.model else self._engines.default
            if model is None:
                known = ", ".join(self._engines.names)
                raise ValueError(
                    f"[{platform}] model: there is no {persona.model[:100]!r}; known are: {known}"
                )
            self._check(f"[{platform}]", model, prompt_on(platform, settings), settings)

    def _check(self, section: str, model: str, system: str, settings: DialogueSettings) -> None:
        talk = self.at_hand(model, settings)
        if talk is None:
            return
        try:
            talk.engine.prepare(_conversation(settings, (), "", system), talk.room)
        except ValueError as error:
            raise ValueError(f"{section} system_prompt: {error}") from error

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
        self,
        message: Message,
        talk: Talk,
        turns: Sequence[Turn],
        question: str,
        system: str,
        begun: str = "",
        offer: Offer = NO_TOOLS,
    ) -> tuple[Conversation, Prepared]:
        """What the engine is asked for a message's author, and the prompt for it. Raises EngineError, and
        ValueError when the system prompt leaves no room for a question."""
        settings = self._in_force.settings
        told = system or prompt_on(message.user.platform, settings)
        conversation = _conversation(settings, turns, question, told, begun, offer)
        return conversation, await self.prepare(message, talk, conversation)

    async def prepare(self, message: Message, talk: Talk, conversation: Conversation) -> Prepared:
        """Raises as `fit`."""
        offered = sum(len(str(tool.parameters)) + len(tool.description) for tool in conversation.offer.tools)
        return await self.off_loop.run(
            str(message.user),
            conversation.characters + offered + len(all_words_of(conversation.said)),
            lambda: talk.engine.prepare(conversation, talk.room),
        )

    async def with_results(
        self, message: Message, talk: Talk, conversation: Conversation, share: float
    ) -> tuple[Conversation, Prepared]:
        """The prompt, once what came of calls is cut to its share of the room. Raises as `fit`."""
        most = int(share * talk.room)
        bare = replace(conversation, past=(), said=())
        for _ in range(_TRIES):
            try:
                alone = await self.prepare(message, talk, replace(conversation, past=()))
                taken = alone.prompt_tokens - (await self.prepare(message, talk, bare)).prompt_tokens
                fits = taken <= most and not alone.question_cut
            except EngineError:
                taken, fits = 4 * most, False
            if fits:
                break
            shorter = _shorter(conversation.said, 0.9 * most / max(taken, 1))
            if shorter == conversation.said:
                break
            conversation = replace(conversation, said=shorter)
        return conversation, await self.prepare(message, talk, conversation)

    async def measure(self, message: Message, talk: Talk, system: str, offer: Offer = NO_TOOLS) -> Prepared:
        """For /context: the prompt as it stands without a question."""
        settings = self._in_force.settings
        turns = await self._store.last_turns(message.conversation, settings.turn_limit + 1)
        _, prompt = await self.fit(message, talk, turns, "", system, offer=offer)
        return prompt


def _conversation(
    settings: DialogueSettings,
    turns: Sequence[Turn],
    question: str,
    system: str,
    begun: str = "",
    offer: Offer = NO_TOOLS,
) -> Conversation:
    return Conversation(
        asked=of_words(question),
        past=_told(turns),
        system=system,
        begun=begun,
        turn_limit=settings.turn_limit,
        offer=offer,
    )


def _shorter(said: Content, share: float) -> Content:
    """The longest results cut, so that this share of all of them is left; none below what still says something."""
    results = [part for part in said if isinstance(part, ToolResult)]
    room = int(min(share, 0.9) * sum(len(part.text) for part in results))
    most = max((len(part.text) for part in results), default=0)
    while most > _LEAST_KEPT and sum(min(len(part.text), most) for part in results) > room:
        most = max(_LEAST_KEPT, int(0.9 * most))
    return tuple(_cut(part, most) if isinstance(part, ToolResult) else part for part in said)


def _cut(result: ToolResult, most: int) -> ToolResult:
    if len(result.text) <= most + len(_LEFT_OUT):
        return result
    return replace(result, text=result.text[:most].removesuffix(_LEFT_OUT) + _LEFT_OUT)


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
