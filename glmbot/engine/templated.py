"""An engine of conversations out of one of tokens: the model's own template and tokenizer make the prompt."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from glmbot.content import Content, ToolCall, parts_of, words_of
from glmbot.engine.base import (
    Ability,
    ChatFormat,
    Conversation,
    Engine,
    EngineStats,
    HoldsForms,
    Precision,
    PrecisionChange,
    Prepared,
    Progress,
    Sampling,
    TokenEngine,
    Tunable,
)
from glmbot.engine.call_forms import call_form, holdable
from glmbot.engine.calls import calls_apart
from glmbot.engine.detokenizer import Detokenizer
from glmbot.engine.exchanges import dialogue_of
from glmbot.engine.fit import Draft, fit, longest_text
from glmbot.engine.texts import Able, BeginsTexts, Pieces
from glmbot.engine.thoughts import apart, begins_inside
from glmbot.engine.told_tools import SYNTAXES, in_words, turns_of
from glmbot.errors import PromptInvalid, PromptTooLong
from glmbot.forms import Form
from glmbot.models.base import ChatMessage, ChatTurn, KnowsTools, OpensThoughts, Speaker
from glmbot.models.calls.syntax import CallSyntax
from glmbot.tools import NO_TOOLS, Choice, Offer

__all__ = ["TemplatedEngine", "TokenPrompt", "answering_conversations", "prepare_tokens"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenPrompt(Prepared):
    """The last `begun` of the `tokens` are the beginning of the answer. `offer`: what it was told of."""

    tokens: Sequence[int]
    begun: int
    offer: Offer = NO_TOOLS


class _Tokens:
    """See `glmbot.engine.fit.Measure`."""

    def __init__(self, chat_format: ChatFormat) -> None:
        self._format = chat_format

    def prompt(self, draft: Draft) -> list[int]:
        if not draft.tools and not any(parts_of(said, ToolCall) for said in _all_said(draft)):
            turns = [ChatTurn(words_of(each.asked), words_of(each.said)) for each in draft.past]
            return self._format.encode_chat(draft.system, turns, draft.question)
        messages = dialogue_of(draft.past, draft.question, draft.said)
        if isinstance(self._format, KnowsTools) and self._format.call_syntax is not None:
            system = [ChatMessage(Speaker.SYSTEM, draft.system)] if draft.system else []
            return self._format.encode_dialogue([*system, *messages], draft.tools)
        return self._format.encode_chat(in_words(draft.system, draft.tools), *turns_of(messages))

    def size(self, prompt: list[int]) -> int:
        return len(prompt)

    def units(self, text: str) -> list[int]:
        return self._format.encode_text(text)

    def units_of_begun(self, answer: str) -> list[int]:
        # The thought before it has been thought.
        ended = self._format.thought_end if isinstance(self._format, OpensThoughts) else ()
        return [*ended, *self._format.encode_begun(answer)]

    def read(self, units: Sequence[int]) -> str:
        return self._format.decode(units)


def _all_said(draft: Draft) -> Sequence[Content]:
    return [*(each.said for each in draft.past), draft.said]


def call_syntax(chat_format: ChatFormat) -> CallSyntax | None:
    """How the model was trained to write calls."""
    return chat_format.call_syntax if isinstance(chat_format, KnowsTools) else None


def prepare_tokens(chat_format: ChatFormat, conversation: Conversation, room: int) -> TokenPrompt:
    """See `Engine.prepare`."""
    fitted = fit(_Tokens(chat_format), conversation, room)
    begun = fitted.begun
    return TokenPrompt(
        prompt_tokens=fitted.size,
        room=room,
        turns=fitted.turns,
        dropped=fitted.dropped,
        question_cut=fitted.question_cut,
        beginning=chat_format.finish_text(chat_format.decode(begun)) if begun else "",
        tokens=[*fitted.prompt, *begun] if begun else fitted.prompt,
        begun=len(begun),
        offer=NO_TOOLS if fitted.tools_dropped else conversation.offer,
        tool_tokens=fitted.tool_tokens,
        tools_dropped=fitted.tools_dropped,
    )


class TemplatedEngine:
    """See `glmbot.engine.base.Engine`."""

    def __init__(self, engine: TokenEngine) -> None:
        self.tokens = engine
        self._pieces: Pieces | None = None

    @property
    def model_name(self) -> str:
        return self.tokens.model_name

    @property
    def context_length(self) -> int:
        return self.tokens.context_length

    @property
    def abilities(self) -> frozenset[Ability]:
        held = isinstance(self.tokens, HoldsForms) and self.tokens.holds_forms
        found = {Ability.THOUGHTS, Ability.TEXTS, Ability.TOOLS}
        found |= self.tokens.abilities if isinstance(self.tokens, Able) else set()
        found |= {Ability.FORMS} if held else set()
        found |= {Ability.TAUGHT_TOOLS} if call_syntax(self.tokens.chat_format) else set()
        return frozenset(found)

    @property
    def generation_defaults(self) -> Mapping[str, object]:
        return self.tokens.generation_defaults

    def prepare(self, conversation: Conversation, room: int) -> TokenPrompt:
        return prepare_tokens(self.tokens.chat_format, conversation, room)

    def prepare_text(self, prompt: str | Sequence[int], room: int) -> TokenPrompt:
        """See `glmbot.engine.texts.TextEngine`."""
        if isinstance(prompt, str):
            if len(prompt) > longest_text(room):
                raise PromptTooLong(len(prompt) // longest_text(1), room)
            chat_format = self.tokens.chat_format
            begins = chat_format.text_begins if isinstance(chat_format, BeginsTexts) else ()
            prompt = [*begins, *chat_format.encode_text(prompt)]
        if len(prompt) > room:
            raise PromptTooLong(len(prompt), room)
        return TokenPrompt(
            prompt_tokens=len(prompt),
            room=room,
            turns=0,
            dropped=0,
            question_cut=False,
            beginning="",
            tokens=prompt,
            begun=0,
        )

    def text_of(self, prepared: Prepared) -> str:
        try:
            return self.tokens.chat_format.decode(cast(TokenPrompt, prepared).tokens)
        except (ValueError, LookupError, OverflowError, TypeError) as error:
            raise PromptInvalid("the prompt holds what is no token of the model") from error

    def starts(self, tokens: Sequence[int]) -> Sequence[int]:
        """See `glmbot.engine.texts.TextEngine`."""
        read = Detokenizer(self.tokens.chat_format.decode)
        found: list[int] = []
        for token in tokens:
            found.append(read.length)
            read.push(token)
        return found

    def piece(self, token: int) -> str:
        if self._pieces is None:
            self._pieces = Pieces(self.tokens.chat_format)
        return self._pieces.of(token)

    def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        if not isinstance(prepared, TokenPrompt):
            raise PromptInvalid("this prompt was made by an engine of another kind")
        tokens, begun = prepared.tokens, prepared.begun
        known = len(prepared.beginning)
        own = call_syntax(self.tokens.chat_format)
        # Whichever way it was taught: what it has to call comes through in JSON.
        syntaxes = SYNTAXES if own is None else (own,) if holdable(own) else (own, *SYNTAXES[:1])
        said = apart(
            self._held(prepared, sampling, syntaxes, user=user, deadline_s=deadline_s),
            inside=not begun and begins_inside(self.tokens.chat_format, tokens),
            known=known,
        )
        if not prepared.offer.callable:
            return said
        return calls_apart(said, syntaxes, prepared.offer, known=known)

    async def _held(
        self,
        prepared: TokenPrompt,
        sampling: Sampling,
        syntaxes: Sequence[CallSyntax],
        *,
        user: str,
        deadline_s: float | None,
    ) -> AsyncGenerator[Progress, None]:
        """Held to valid calls, where that can be done. A tool whose schema nobody can hold an answer to stops no
        answer that need not call."""

        def said(form: Form | None) -> AsyncGenerator[Progress, None]:
            held = sampling if form is None else replace(sampling, form=form)
            return self.tokens.generate(
                prepared.tokens, held, user=user, deadline_s=deadline_s, begun=prepared.begun
            )

        form = self._call_form(prepared, sampling, syntaxes)
        begun = False
        try:
            async with aclosing(said(form)) as generation:
                async for progress in generation:
                    begun = True
                    yield progress
            return
        except PromptInvalid as error:
            if form is None or begun or prepared.offer.choice is Choice.REQUIRED:
                raise
            _log.info("calls of tools are not held to their schemas: %s", error)
        async with aclosing(said(None)) as generation:
            async for progress in generation:
                yield progress

    def _call_form(
        self, prepared: TokenPrompt, sampling: Sampling, syntaxes: Sequence[CallSyntax]
    ) -> Form | None:
        offer = prepared.offer
        if not offer.callable or sampling.form is not None or prepared.begun:
            return None
        if Ability.FORMS not in self.abilities:
            return None
        chat_format = self.tokens.chat_format
        special = chat_format.special_tags if isinstance(chat_format, KnowsTools) else {}
        syntax = next(each for each in syntaxes if holdable(each))
        if syntax is not syntaxes[0] and offer.choice is not Choice.REQUIRED:
            return None
        return call_form(syntax, offer, special)

    async def forget(self, user: str) -> None:
        await self.tokens.forget(user)

    def stats(self) -> EngineStats:
        return self.tokens.stats()

    async def close(self) -> None:
        await self.tokens.close()


class _TunableEngine(TemplatedEngine):
    """See `glmbot.engine.base.Tunable`."""

    def __init__(self, engine: TokenEngine, tuned: Tunable) -> None:
        super().__init__(engine)
        self._tuned = tuned

    @property
    def abilities(self) -> frozenset[Ability]:
        return super().abilities | {Ability.PRECISIONS}

    @property
    def precision(self) -> Precision:
        return self._tuned.precision

    @property
    def precisions(self) -> Sequence[Precision]:
        return self._tuned.precisions

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        return await self._tuned.set_precision(precision, on_progress)


def answering_conversations(engine: Engine | TokenEngine) -> Engine:
    """Tunable where `engine` is."""
    if hasattr(engine, "prepare"):
        return cast(Engine, engine)
    engine = cast(TokenEngine, engine)
    if isinstance(engine, Tunable) and engine.precisions:
        return _TunableEngine(engine, engine)
    return TemplatedEngine(engine)
