"""Which tokens may be drawn next for an answer of a given form: llguidance's matchers, and their bounds.

https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from torch import Tensor

from glmbot.engine.base import ChatFormat
from glmbot.engine.grammars import Before, grammar_of
from glmbot.engine.thoughts import begins_inside
from glmbot.engine.vocabulary import read_vocabulary
from glmbot.errors import EngineError, PromptInvalid
from glmbot.forms import Form
from glmbot.models.registry import LoadedModel
from glmbot.models.thoughts import CLOSING, OPENING

__all__ = ["FormCompiler", "FormMatcher", "compiler_of"]

_MOST_KEPT = 8
_LONGEST_REASON = 400
# Forms come from anybody, and each step of everybody waits for a mask: some ten milliseconds of work a step at the
# worst, and 50 MB, which is a fraction of what llguidance allows itself.
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 10_000,
    "max_items_in_row": 1000,
    "max_lexer_states": 30_000,
    "max_grammar_size": 20_000,
    "verbose_errors": False,
}
# Of one answer, on the average of its steps, once it has used up the first second.
_FIRST_S, _STEP_S = 1.0, 0.01


class FormMatcher:
    """Where one answer stands in its form. Used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, stop_tokens: Collection[int], size: int) -> None:
        self._matcher = matcher
        self._stop_tokens = stop_tokens
        self._size = size
        self._left_s = _FIRST_S

    def masks(self, guessed: Sequence[int] = ()) -> list[Tensor | None]:
        """Bool [vocabulary] for the next token, and for the one after each of `guessed`: true where it may be
        drawn. None behind a guess that can't come, and where `take` will raise."""
        began = time.thread_time()
        found: list[Tensor | None] = [self._mask()]
        taken = 0
        for guess in guessed:
            if guess in self._stop_tokens or not self._matcher.try_consume_tokens([guess]):
                break
            taken += 1
            found.append(self._mask())
        if taken:
            self._matcher.rollback(taken)
        self._left_s -= time.thread_time() - began
        return found + [None] * (1 + len(guessed) - len(found))

    def take(self, token: int) -> None:
        """Raises EngineError when the form takes too much work to follow."""
        began = time.thread_time()
        taken = self._matcher.consume_token(token)
        self._left_s = min(_FIRST_S, self._left_s + _STEP_S) - (time.thread_time() - began)
        if self._left_s < 0:
            raise EngineError("the answer can't be held to its form any further: it takes too long")
        if not taken:
            reason = _words(self._matcher.get_error())
            raise EngineError(f"the answer can't be held to its form any further: {reason}")

    @property
    def ended(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._matcher.is_stopped()

    def _mask(self) -> Tensor | None:
        if self._matcher.is_error():
            return None
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            return None
        return torch.from_numpy(np.unpackbits(bits, count=self._size, bitorder="little").view(np.bool_))


class FormCompiler:
    """For one model's vocabulary. May be used by several threads."""

    def __init__(
        self, tokenizer: LLTokenizer, chat_format: ChatFormat, stop_tokens: Collection[int], *, thinks: bool
    ) -> None:
        """thinks: whether the model may think before it answers, where it has a token for that."""
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._stop_tokens = stop_tokens
        self._limits = LLParserLimits(**_LIMITS)
        opening, closing = self._id_of(OPENING), self._id_of(CLOSING)
        self._before = Before(
            may_think=thinks and opening is not None,
            opening=self._special(opening),
            closing=self._special(closing),
            space=self._loses_a_space(),
        )
        self._compiled: OrderedDict[tuple[Form, Before], LLMatcher] = OrderedDict()
        self._lock = Lock()

    def compile(self, form: Form, prompt: Sequence[int], begun: int = 0) -> FormMatcher:
        """For an answer to `prompt`, the last `begun` tokens of which are its beginning.

        Takes up to a second. Raises PromptInvalid for a form that can't be held, with the reason.
        """
        inside = not begun and begins_inside(self._chat_format, prompt)
        thought = not begun and self._chat_format.decode(prompt[-12:]).rstrip().endswith(CLOSING)
        before = replace(self._before, inside=inside, may_think=self._before.may_think and not thought)
        matcher = self._copy((form, before))
        beginning = list(prompt[len(prompt) - begun :])
        if not matcher.consume_tokens(beginning):
            raise PromptInvalid("the beginning of the answer does not have the form that is asked for")
        return FormMatcher(matcher, self._stop_tokens, self._tokenizer.vocab_size)

    def _copy(self, key: tuple[Form, Before]) -> LLMatcher:
        with self._lock:
            if (known := self._compiled.get(key)) is not None:
                self._compiled.move_to_end(key)
                return known.deep_copy()
        made = self._made(*key)
        with self._lock:
            self._compiled[key] = made
            while len(self._compiled) > _MOST_KEPT:
                self._compiled.popitem(last=False)
            return made.deep_copy()

    def _made(self, form: Form, before: Before) -> LLMatcher:
        try:
            grammar = grammar_of(form, before)
        except ValueError as error:
            raise PromptInvalid(f"the form of the answer: {_words(str(error))}") from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)
        # The first step's work is a part of it, and shows what nothing satisfies.
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            reason = matcher.get_error()
            known = "no answer has it" if reason.startswith("NoExtension") else _words(reason)
            raise PromptInvalid(f"the form of the answer: {known}")
        # Where no token of the vocabulary would do, any stands in the mask.
        first = next((8 * at + (byte & -byte).bit_length() - 1 for at, byte in enumerate(mask) if byte), None)
        if first is None or not (first in self._stop_tokens or matcher.validate_tokens([first])):
            raise PromptInvalid("the form of the answer: no answer has it")
        return matcher

    def _id_of(self, text: str) -> int | None:
        ids = self._tokenizer.tokenize_str(text, parse_special=True)
        return ids[0] if len(ids) == 1 else None

    def _special(self, token: int | None) -> int | None:
        return token if token is not None and self._tokenizer.is_special_token(token) else None

    def _loses_a_space(self) -> bool:
        ids = self._tokenizer.greedy_tokenize(" a")
        return not self._chat_format.decode(ids).startswith(" ")


def compiler_of(model: LoadedModel, *, thinks: bool) -> FormCompiler | None:
    """None where answers can't be held to a form. thinks: see `FormCompiler`."""
    tokenizer = read_vocabulary(model.chat_format, model.shape.vocabulary, model.stop_tokens)
    if tokenizer is None:
        return None
    return FormCompiler(tokenizer, model.chat_format, model.stop_tokens, thinks=thinks)


def _words(reason: str) -> str:
    """In one line, without the place in a grammar that nobody wrote."""
    return " ".join(reason.split())[:_LONGEST_REASON] or "no reason is known"
