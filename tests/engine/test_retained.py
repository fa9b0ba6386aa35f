"""What is kept of ended sequences: shared by whoever begins alike, and never in anybody's way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.kv_cache import RangeAllocator
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.retained import LEAST_SHARED, RetainedPrefixes, common_prefix
from glmbot.engine.scheduler import Scheduler, Sequence
from glmbot.models.base import ChatTurn


@given(shared=st.lists(st.integers(0, 3)), one=st.lists(st.integers(0, 3)), other=st.lists(st.integers(0, 3)))
def test_the_common_prefix_is_found(shared: list[int], one: list[int], other: list[int]) -> None:
    first, second = shared + one, shared + other
    expected = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        expected += 1
    assert common_prefix(first, second) == expected


def test_the_longest_beginning_is_taken_and_a_conversation_replaces_its_own_past() -> None:
    allocator = RangeAllocator(1000)
    retained = RetainedPrefixes(allocator)
    turns = [list(range(20)), list(range(60)), [*range(30), 99, *range(40)]]
    for number, tokens in enumerate(turns):
        place = allocator.take(200)
        assert place is not None
        retained.keep(str(number), tokens, place, 0)
    assert retained.tokens == 60 + 71, "the first is a part of the second"
    found = retained.best([*range(50), 7])
    assert found is not None
    assert found[0].user == "1"
    assert found[1] == 50
    retained.forget("1")
    assert retained.tokens == 71
    assert allocator.used == 71


def test_a_picture_is_shared_with_none_but_the_same() -> None:
    retained = RetainedPrefixes(RangeAllocator(1000))
    before, picture, other = list(range(20)), ["digest of one"] * 30, ["digest of another"] * 30
    place = retained.take(100, None)
    retained.keep("ann", [*before, *picture, 7], place, 0)
    for prompt, shared in (
        ([*before, *picture, 8], 50),
        ([*before, *other, 7], 20),
        ([*before, *range(30)], 20),
    ):
        found = retained.best(prompt)
        assert found is not None
        assert found[1] == shared


def make_sequence(id: int, tokens: list[int], answer: int = 10) -> Sequence:
    return Sequence(id, str(id), len(tokens), list(tokens), Sampling(max_tokens=answer), float(id))


class KeptCaches(RuleBasedStateMachine):
    """Whatever comes and goes: each running sequence's cache holds exactly its own tokens, and room that only
    kept entries take is always found. The arena is played by a list of tokens."""

    @initialize(capacity=st.integers(60, 200))
    def start(self, capacity: int) -> None:
        self.scheduler = Scheduler(RangeAllocator(capacity), max_batch=4, prefill_tokens=16)
        self.arena: list[int | None] = [None] * capacity
        self.known: list[list[int]] = [[1] * 20]
        self.next = 0

    @rule(
        beginning=st.integers(0, 10**6),
        kept=st.integers(0, 60),
        more=st.lists(st.integers(2, 5), min_size=1, max_size=25),
        answer=st.integers(1, 8),
    )
    def ask(self, beginning: int, kept: int, more: list[int], answer: int) -> None:
        tokens = self.known[beginning % len(self.known)][:kept] + more
        self.next += 1
        sequence = make_sequence(self.next, tokens, answer)
        if sequence.reserved <= len(self.arena):
            self.scheduler.add(sequence)

    @rule(steps=st.integers(1, 12))
    def compute(self, steps: int) -> None:
        for _ in range(steps):
            chunks = self.scheduler.schedule()
            for sequence in self.scheduler.running:
                assert sequence.place is not None
                if not sequence.started and sequence.shares is not None:
                    source, length = sequence.shares
                    target = sequence.place.start
                    self.arena[target : target + length] = self.arena[source : source + length]
                sequence.started = True
            for chunk in chunks:
                sequence = chunk.sequence
                assert sequence.place is not None
                draws = chunk.draws
                for _ in range(chunk.length):
                    place = sequence.place.start + sequence.computed
                    assert place < sequence.place.end
                    self.arena[place] = sequence.tokens[sequence.computed]
                    sequence.computed += 1
                if draws:
                    sequence.tokens.append(2 + sequence.id % 4)
                    if sequence.drawn >= sequence.sampling.max_tokens:
                        self.known.append(list(sequence.tokens))
                        self.scheduler.remove(sequence, retain=True)

    @rule(which=st.integers(0, 3))
    def cancel(self, which: int) -> None:
        if which < len(self.scheduler.running):
            self.scheduler.remove(self.scheduler.running[which], retain=True)

    @invariant()
    def caches_hold_their_own_tokens(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for sequence in self.scheduler.running:
            if sequence.started and sequence.place is not None:
                start = sequence.place.start
                assert self.arena[start : start + sequence.computed] == sequence.tokens[: sequence.computed]

    @invariant()
    def what_is_kept_is_in_nobodys_way(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        if not self.scheduler.running and self.scheduler.waiting:
            assert self.scheduler.schedule(), "somebody waits although nothing runs"


TestKeptCaches = KeptCaches.TestCase


@pytest.fixture
async def chatty(engine_settings: LocalEngineSettings) -> AsyncGenerator[LocalEngine]:
    started = await LocalEngine.start(replace(engine_settings, cache_tokens=4096))
    yield started
    await started.close()


async def answer(engine: LocalEngine, prompt: list[int], user: str = "a", tokens: int = 24) -> Progress:
    last = Progress()
    async for progress in engine.generate(prompt, Sampling(max_tokens=tokens, temperature=0), user=user):
        last = progress
    return last


async def test_a_second_turn_computes_only_what_is_new(chatty: LocalEngine) -> None:
    chat = chatty.chat_format
    question = "What is the capital of France? " * 8
    opening = chat.encode_chat("", (), question)
    first = await answer(chatty, opening)
    read = chatty.stats().prompt_tokens_read
    prompt = chat.encode_chat("", [ChatTurn(question, first.text)], "And of Spain?")
    second = await answer(chatty, prompt)
    new = chatty.stats().prompt_tokens_read - read
    assert new <= len(prompt) - len(opening), (
        "the words of a random model need not be cut into the same tokens"
    )
    fresh = await LocalEngine.start(chatty.settings)
    assert (await answer(fresh, prompt)).text == second.text, "the same as computed from the beginning"
    await fresh.close()


async def test_nothing_is_carried_over_a_change_of_precision(chatty: LocalEngine) -> None:
    prompt = chatty.chat_format.encode_chat("", (), "The quick brown fox jumps over the lazy dog. " * 5)
    await answer(chatty, prompt)
    await chatty.set_precision(Precision.INT8)
    read = chatty.stats().prompt_tokens_read
    await answer(chatty, prompt)
    assert chatty.stats().prompt_tokens_read - read == len(prompt)


async def test_a_user_who_is_forgotten_leaves_nothing_in_the_cache(chatty: LocalEngine) -> None:
    prompt = chatty.chat_format.encode_chat("", (), "The quick brown fox jumps over the lazy dog. " * 5)
    await answer(chatty, prompt, user="ann")
    await answer(chatty, chatty.chat_format.encode_chat("", (), "你好，世界。" * 9), user="bob")
    assert chatty.stats().cache_tokens_kept > len(prompt)
    await chatty.forget("ann")
    assert LEAST_SHARED < chatty.stats().cache_tokens_kept < len(prompt) + 120
    read = chatty.stats().prompt_tokens_read
    await answer(chatty, prompt, user="carl")
    assert chatty.stats().prompt_tokens_read - read > len(prompt) - LEAST_SHARED
