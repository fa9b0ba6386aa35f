"""Which tokens may be drawn next for an answer of a given form: llguidance's matchers, and their bounds.

https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from glmbot.engine.base import ChatFormat
from glmbot.engine.free_text import FreeText, Place, Thought
from glmbot.engine.grammars import Before, grammar_of
from glmbot.engine.kept_forms import KeptForms
from glmbot.engine.sampling import Mask
from glmbot.engine.thoughts import begins_inside
from glmbot.engine.vocabulary import read_vocabulary
from glmbot.errors import EngineError, PromptInvalid
from glmbot.forms import Form
from glmbot.models.registry import LoadedModel
from glmbot.models.thoughts import CLOSING, OPENING

__all__ = ["FormCompiler", "FormMatcher", "compiler_of"]

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


_Compiled = tuple[LLMatcher, FreeText | None]


class FormMatcher:
    """Where one answer stands in its form. Used by one thread at a time."""

    def __init__(
        self, matcher: LLMatcher, stop_tokens: Collection[int], size: int, free: FreeText | None = None
    ) -> None:
        """free: what the answer is until it opens its form."""
        self._matcher = matcher
        self._stop_tokens = stop_tokens
        self._size = size
        self._bits = np.empty((size + 31) // 32, dtype=np.int32)
        self._free = free
        self._place = Place() if free is None else free.start
        self._untold: list[int] = []
        """Tokens that were taken, and that the matcher has not been told of."""
        self._left_s = _FIRST_S

    def known(self, guessed: Sequence[int] = ()) -> list[Mask | None] | None:
        """`masks`, where they take no time."""
        free = self._free
        return None if free is None else free.known(self._place, guessed)

    def masks(self, guessed: Sequence[int] = ()) -> list[Mask | None]:
        """For the next token, and for the one after each of `guessed`. None behind a guess that can't come, and
        where `take` will raise."""
        if (known := self.known(guessed)) is not None:
            return known
        began = time.thread_time()
        self._tell()
        found: list[Mask | None] = [self._mask()]
        taken = 0
        for guess in guessed:
            if guess in self._stop_tokens or not self._matcher.try_consume_tokens([guess]):
                break
            taken += 1
            found.append(self._mask())
        if taken:
            self._matcher.rollback(taken)
        self._left_s -= time.thread_time() - began
        if self._free is not None and found[0] is not None:
            self._free.learn(self._place, found[0])
        elif found[0] is None:
            self._free = None
        return found + [None] * (1 + len(guessed) - len(found))

    def take(self, token: int) -> None:
        """Raises EngineError when the form takes too much work to follow."""
        if self._free is not None:
            place = self._free.after(self._place, token)
            if place is not None or token in self._stop_tokens:
                self._untold.append(token)
                self._place = place or self._place
                self._left_s = min(_FIRST_S, self._left_s + _STEP_S)
                return
            self._free = None
        began = time.thread_time()
        self._tell()
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
        return self._free is None and not self._untold and self._matcher.is_stopped()

    def _tell(self) -> None:
        if self._untold:
            self._matcher.consume_tokens(self._untold)
            self._untold = []

    def _mask(self) -> Mask | None:
        if self._matcher.is_error():
            return None
        # Nobody else waits for this thread meanwhile: it drops Python's lock, which `compute_bitmask` keeps.
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            return None
        may = np.unpackbits(self._bits.view(np.uint8), count=self._size, bitorder="little").view(np.bool_)
        few = bool(2 * np.count_nonzero(may) < self._size)
        return Mask(torch.from_numpy(np.flatnonzero(may if few else ~may)), allowed=few)


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
        self._kept = KeptForms[tuple[Form, Before], _Compiled]()
        self._lock = Lock()

    def compile(self, form: Form, prompt: Sequence[int], begun: int = 0, *, user: str = "") -> FormMatcher:
        """For an answer to `prompt`, the last `begun` tokens of which are its beginning. user: who wants it.

        Takes up to a second. Raises PromptInvalid for a form that can't be held, with the reason.
        """
        inside = not begun and begins_inside(self._chat_format, prompt)
        thought = not begun and self._chat_format.decode(prompt[-12:]).rstrip().endswith(CLOSING)
        before = replace(self._before, inside=inside, may_think=self._before.may_think and not thought)
        matcher, free = self._copy((form, before), user)
        beginning = list(prompt[len(prompt) - begun :])
        if not matcher.consume_tokens(beginning):
            raise PromptInvalid("the beginning of the answer does not have the form that is asked for")
        return FormMatcher(matcher, self._stop_tokens, self._tokenizer.vocab_size, None if begun else free)

    def forget(self, user: str) -> None:
        """What nobody but them has asked for."""
        with self._lock:
            self._kept.forget(user)

    def _copy(self, key: tuple[Form, Before], user: str) -> _Compiled:
        with self._lock:
            if (known := self._kept.get(key, user)) is not None:
                return known[0].deep_copy(), known[1]
        matcher = self._made(*key)
        free = self._free(*key)
        with self._lock:
            self._kept.put(key, (matcher, free), user)
            return matcher.deep_copy(), free

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

    def _free(self, form: Form, before: Before) -> FreeText | None:
        thought = None
        if before.inside or before.may_think:
            if before.closing is None:
                return None
            thought = Thought(before.opening, before.closing, before.inside)
        if form.opening is None and thought is None:
            return None
        opening = None if form.opening is None else form.opening.encode()
        return FreeText(opening, self._spelled, thought)

    def _spelled(self, token: int) -> bytes | None:
        if token in self._stop_tokens or self._tokenizer.is_special_token(token):
            return None
        return self._tokenizer.decode_bytes([token])

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
