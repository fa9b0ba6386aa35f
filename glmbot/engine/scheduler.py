"""Whom to serve next: iteration-level scheduling (Orca, OSDI 2022), fair between users. Pure bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass, field

from glmbot.engine.base import Sampling
from glmbot.engine.fairness import fair_order
from glmbot.engine.kv_cache import Range, RangeAllocator
from glmbot.engine.masks import FormMatcher
from glmbot.engine.retained import LEAST_SHARED, RetainedPrefixes, common_prefix

__all__ = ["Chunk", "Scheduler", "Sequence"]

# How many times larger the steps of prompts are while nobody decodes.
_ALONE = 4


@dataclass(slots=True, eq=False)
class Sequence:
    """One request. `tokens` is the prompt and then each drawn token; `computed` of them are in the cache."""

    id: int
    user: str
    prompt_length: int
    tokens: list[int]
    sampling: Sampling
    arrival: float
    deadline: float | None = None
    whole_prefill: bool = False
    """The prompt must be computed in one step: its tokens see each other in both directions."""
    regime: int = 0
    """Only those of the same one share a beginning: see `PositionScheme`."""
    anew_after: int = 0
    """With more tokens than this it is computed again from its first, in the next regime; 0: never."""
    prefix: int = 0
    """Cache entries in front of the tokens' own (P-Tuning)."""
    computed: int = 0
    place: Range | None = None
    shares: tuple[int, int] | None = None
    """To be copied before its first step: the cache entry to begin at, and how many. They count as computed."""
    started: bool = False
    """Whether its range holds what it shares with others."""
    seen: set[int] = field(default_factory=set[int])
    scored: int = 0
    """Tokens of the prompt whose logits have been looked at; see `Sampling.prompt_logprobs`."""
    matcher: FormMatcher | None = None
    """Holds its answer to a form."""

    @property
    def reserved(self) -> int:
        """Cache entries that it can ever need; the last drawn token is never computed."""
        return self.prefix + self.prompt_length + self.sampling.max_tokens - 1

    @property
    def drawn(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def scores(self) -> bool:
        """Whether the logits of its prompt are still wanted."""
        return self.sampling.prompt_logprobs is not None and self.scored < self.prompt_length


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of a sequence to compute in this step; `draws` when its next token follows from them.

    Tokens that are only guessed are computed after those: the logits after each of them are wanted too.
    """

    sequence: Sequence
    length: int
    guessed: tuple[int, ...] = ()

    @property
    def draws(self) -> bool:
        return self.sequence.computed + self.length == len(self.sequence.tokens)

    @property
    def scores(self) -> bool:
        return self.sequence.scores

    @property
    def rows(self) -> int:
        """After how many of its last tokens the logits are wanted."""
        if self.scores:
            return self.length
        return 1 + len(self.guessed) if self.draws else 0


class Scheduler:
    """Sequences wait, are admitted when a cache range is free, and run until they are removed. Users take turns:
    see `fair_order`."""

    def __init__(
        self, allocator: RangeAllocator, *, max_batch: int, prefill_tokens: int, scored_tokens: int = 1
    ) -> None:
        """scored_tokens: of the prompts whose logits are all wanted, so many in one step."""
        self.allocator = allocator
        self.retained = RetainedPrefixes(allocator)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens
        self._scored_tokens = scored_tokens
        self._last_served: dict[str, int] = {}
        self._turn = 0

    def add(self, sequence: Sequence) -> None:
        """Raises ValueError for a sequence that the whole cache could not hold."""
        if sequence.reserved > self.allocator.capacity:
            raise ValueError(
                f"{sequence.reserved} cache entries needed, {self.allocator.capacity} configured"
            )
        self.waiting.append(sequence)

    @property
    def cache_used(self) -> int:
        """Cache entries that running sequences own; what is retained gives way."""
        return self.allocator.used - self.retained.tokens

    def remove(self, sequence: Sequence, *, retain: bool = False) -> None:
        """Take a sequence out, wherever it is, and free its cache, or leave it to whoever begins alike. Harmless
        when it is gone already."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        if sequence.place is not None:
            # Entries of a context that sees itself in both directions depend on all of it.
            if retain and sequence.started and not sequence.whole_prefill:
                computed = sequence.tokens[: sequence.computed]
                self.retained.keep(sequence.user, computed, sequence.place, sequence.prefix, sequence.regime)
            else:
                self.allocator.give_back(sequence.place)
            sequence.place = None
        if not self.running and not self.waiting:
            self._last_served.clear()

    def line(self) -> list[Sequence]:
        """The waiting in the order in which they would be admitted: the index + 1 is the place in line."""
        running = [sequence.user for sequence in self.running]
        return fair_order(self.waiting, running, self._last_served, self._turn)

    def schedule(self) -> list[Chunk]:
        """Admit whom there is room for, and say what to compute: one token of each sequence that decodes,
        and up to the prefill budget of prompts, in order of admission (at least one chunk gets through). With
        nobody to wait for it the budget is larger."""
        self._admit()
        chunks: list[Chunk] = []
        decoding = any(len(sequence.tokens) - sequence.computed == 1 for sequence in self.running)
        budget = self._prefill_tokens if decoding else _ALONE * self._prefill_tokens
        scored = self._scored_tokens
        for sequence in self.running:
            if 0 < sequence.anew_after < len(sequence.tokens):
                sequence.regime, sequence.anew_after, sequence.computed = sequence.regime + 1, 0, 0
            left = len(sequence.tokens) - sequence.computed
            if left == 1:
                chunks.append(Chunk(sequence, 1))
            elif budget > 0:
                length = left if sequence.whole_prefill else min(left, budget)
                if sequence.scores:
                    length = min(length, scored)
                    scored -= length
                if not length:
                    continue
                budget -= length
                chunks.append(Chunk(sequence, length))
        return chunks

    def _admit(self) -> None:
        if not self.waiting or len(self.running) >= self._max_batch:
            return
        for sequence in self.line():
            if len(self.running) >= self._max_batch:
                return
            # Strictly in line: a small request never overtakes a large one for ever.
            if not self._place(sequence):
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self._turn += 1
            self._last_served[sequence.user] = self._turn

    def _place(self, sequence: Sequence) -> bool:
        """Give it a cache range, with what can be shared of others' to be copied. False when there is no room."""
        if not self.retained.has_room(sequence.reserved):
            return False
        # What is copied has no logits.
        alone = sequence.whole_prefill or sequence.scores
        best = None if alone else self.retained.best(sequence.tokens, sequence.regime)
        sequence.place = self.retained.take(sequence.reserved, best[0] if best is not None else None)
        source, shared = (best[0].place.start, best[1]) if best is not None else (0, 0)
        if not alone:
            for other in self.running:
                if other.place is None or other.whole_prefill or other.regime != sequence.regime:
                    continue
                common = common_prefix(other.tokens[: other.computed], sequence.tokens)
                if common > max(shared, LEAST_SHARED - 1):
                    source, shared = other.place.start, common
        # The last token of a prompt is always computed: its logits are wanted.
        shared = min(shared, len(sequence.tokens) - 1)
        if shared >= LEAST_SHARED:
            sequence.shares = (source + sequence.prefix, shared)
            sequence.computed = shared
            if best is not None:
                self.retained.touch(best[0])
        return True
