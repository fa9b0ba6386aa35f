"""Guessing ahead: faster where text repeats, and never another answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.guesses import Guesses
from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.lookup import PromptLookup
from glmbot.native.library import kernels


@given(
    tokens=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 9)),
    most=st.integers(0, 4),
)
def test_a_guess_is_what_followed_before(tokens: list[int], cuts: list[int], most: int) -> None:
    lookup = PromptLookup()
    length = 0
    for cut in [*cuts, len(tokens)]:
        length = min(len(tokens), length + cut)
        known = tokens[:length]
        guess = lookup.guess(known, most)
        assert len(guess) <= most
        if guess:
            key = tuple(known[-3:])
            places = [at for at in range(3, len(known)) if tuple(known[at - 3 : at]) == key]
            assert any(tuple(known[at : at + len(guess)]) == guess for at in places)


def test_bad_luck_stops_the_guessing_for_a_while() -> None:
    lookup = PromptLookup()
    tokens = [1, 2, 3, 4] * 5
    for _ in range(10):
        if lookup.guess(tokens, 3):
            lookup.judge(3, 0)
    assert lookup.guess(tokens, 3) == ()
    assert any(lookup.guess(tokens, 3) for _ in range(60)), "and it is tried again"


async def answer(engine: LocalEngine, question: str, sampling: Sampling, user: str = "a") -> Progress:
    last = Progress()
    prompt = engine.chat_format.encode_chat("", (), question)
    async for progress in engine.generate(prompt, sampling, user=user):
        assert progress.text.startswith(last.text)
        last = progress
    return last


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT4])
async def test_answers_are_the_same_whatever_is_guessed(
    tiny_model: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, drawn, and with a penalty on what was said, whose own part the guesses are."""
    if kernels() is None:
        pytest.skip("no C++ compiler here")
    wishes = [
        Sampling(max_tokens=40, temperature=0),
        Sampling(max_tokens=40, temperature=0, repetition_penalty=1.1),
        Sampling(max_tokens=40, temperature=0, presence_penalty=0.2, frequency_penalty=0.3),
        Sampling(max_tokens=40, temperature=1.0, top_p=0.7, seed=5),
        Sampling(max_tokens=40, temperature=0.4, repetition_penalty=1.2, seed=6),
    ]
    question = "Repeat this: the old lighthouse keeper counted the ships."
    engine = await LocalEngine.start(
        LocalEngineSettings(tiny_model, precision=precision, cache_tokens=4096, threads=1)
    )
    guesses = Guesses(monkeypatch)
    without = [await answer(engine, question, wish) for wish in wishes]
    assert engine.stats().tokens_guessed == 0
    guesses.begin()
    assert [await answer(engine, question, wish) for wish in wishes] == without
    pair = await asyncio.gather(*(answer(engine, question, wish, str(wish.seed)) for wish in wishes[2:4]))
    assert pair == without[2:4]
    stats = engine.stats()
    await engine.close()
    assert stats.tokens_guessed > 60
    assert 30 < stats.tokens_guessed_right < stats.tokens_guessed
