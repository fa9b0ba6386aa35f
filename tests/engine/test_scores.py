"""Likelihoods are the model's own, whoever shares the step and whatever was guessed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from glmbot.engine import local, model_thread
from glmbot.engine.base import Precision, Progress, Sampling, Score
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.lookup import PromptLookup
from glmbot.errors import PromptInvalid

QUESTION = "Repeat this: the old lighthouse keeper counted the ships."
WISHES = [
    Sampling(max_tokens=24, temperature=0, logprobs=3),
    Sampling(max_tokens=24, temperature=1.0, top_p=0.7, seed=5, logprobs=20, prompt_logprobs=2),
    Sampling(max_tokens=24, temperature=0.4, frequency_penalty=0.5, presence_penalty=0.5, seed=6, logprobs=0),
    Sampling(max_tokens=24, temperature=0, logit_bias=((300, 5.0),), prompt_logprobs=0),
]


async def answer(engine: LocalEngine, prompt: Sequence[int], sampling: Sampling) -> Progress:
    last = Progress()
    async for progress in engine.generate(prompt, sampling, user=str(sampling.seed)):
        assert progress.scores[: len(last.scores)] == last.scores, "what was told stands"
        last = progress
    return last


def reference(folder: Path, tokens: Sequence[int]) -> torch.Tensor:
    """[tokens, vocabulary]: after each token, Transformers' float32 log-softmax."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([list(tokens)])).logits[0].float(), -1)


def close(scores: Sequence[Score], others: Sequence[Score]) -> None:
    assert [score.token for score in scores] == [other.token for other in others]
    for score, other in zip(scores, others, strict=True):
        assert score.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [value for _, value in score.top] == pytest.approx([value for _, value in other.top], abs=1e-4)


async def test_likelihoods_are_those_of_transformers_alone_together_and_with_guesses(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prompts are scored in several steps then.
    monkeypatch.setattr(model_thread, "most_rows", lambda _: 7)
    said: list[list[int]] = []
    dice = random.Random(1)

    def guesses(_: PromptLookup, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """What was said before, and as often a token of it that is wrong."""
        known = next((each for each in reversed(said) if each[: len(tokens)] == list(tokens)), [])
        guess = known[len(tokens) : len(tokens) + min(most, 3)]
        if guess and dice.random() < 0.5:
            guess[dice.randrange(len(guess))] = dice.randrange(400)
        return tuple(guess)

    monkeypatch.setattr(PromptLookup, "guess", guesses)
    engine = await LocalEngine.start(
        LocalEngineSettings(tiny_model, precision=Precision.FP32, cache_tokens=4096, threads=1)
    )
    prompt = engine.chat_format.encode_chat("", (), QUESTION)
    alone = [await answer(engine, prompt, wish) for wish in WISHES]
    for wish, progress in zip(WISHES, alone, strict=True):
        assert (len(progress.scores) > 0) is (wish.logprobs is not None)
        assert (len(progress.prompt_scores) == len(prompt)) is (wish.prompt_logprobs is not None)
        drawn = [score.token for score in progress.scores]
        said.append([*prompt, *drawn])
        expected = reference(tiny_model, said[-1])
        for at, score in enumerate((*progress.prompt_scores[1:], *progress.scores)):
            row = expected[at if progress.prompt_scores else at + len(prompt) - 1]
            assert score.logprob == pytest.approx(float(row[score.token]), abs=1e-3)
            tops = row.topk(len(score.top)).values.tolist()
            assert [value for _, value in score.top] == pytest.approx(tops, abs=1e-3)
    assert [score.logprob for score in alone[1].prompt_scores[:1]] == [None]
    together = await asyncio.gather(*(answer(engine, prompt, wish) for wish in WISHES))
    again = [await answer(engine, prompt, wish) for wish in WISHES]
    for first, *others in zip(alone, together, again, strict=True):
        for other in others:
            assert other.text == first.text
            close(other.scores, first.scores)
            close(other.prompt_scores, first.prompt_scores)
    assert engine.stats().tokens_guessed_right > 10 or not engine._runner.native
    with pytest.raises(PromptInvalid, match="logit_bias names 5000"):
        await answer(engine, prompt, Sampling(max_tokens=1, logit_bias=((5000, 1.0),)))
    monkeypatch.setattr(local, "_MOST_SCORES", 100)
    with pytest.raises(PromptInvalid, match="at most 100 likelihoods"):
        await answer(engine, prompt, Sampling(max_tokens=1, prompt_logprobs=20))
    await engine.close()


async def test_a_stop_text_is_not_scored(tiny_model: Path) -> None:
    engine = await LocalEngine.start(
        LocalEngineSettings(tiny_model, precision=Precision.FP32, cache_tokens=2048, threads=1)
    )
    prompt = engine.chat_format.encode_chat("", (), QUESTION)
    whole = await answer(engine, prompt, Sampling(max_tokens=24, temperature=0, logprobs=0))
    stop = whole.text[20:24]
    cut = await answer(engine, prompt, Sampling(max_tokens=24, temperature=0, logprobs=0, stop=(stop,)))
    assert 0 < len(cut.scores) < len(whole.scores)
    close(cut.scores, whole.scores[: len(cut.scores)])
    assert cut.scores[-1].start < len(cut.text) <= whole.scores[len(cut.scores)].start
    await engine.close()
