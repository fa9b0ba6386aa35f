"""One architecture: a tiny random model of it, its own `generate` and our engine, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from glmbot.errors import ModelFileError
from tiny_architectures import by_the_engine, by_transformers, questions, runner_of, write_architecture

__all__ = ["VERDICTS", "Verdict", "examine"]

VERDICTS = ("equal", "refused", "unmade", "wrong", "crashed")
"""unmade: Transformers makes no such model out of small sizes, or can't run it, so that there is nothing to equal."""

# Alone, in company and in pieces: longer than a window, shorter than it, and a single token.
_LENGTHS = (70, 40, 5, 1)
_ALONE = 2
_NEW = 10
# Two logits so close are one choice: sums in another order decide it.
_TIE = 1e-3


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: str
    verdict: str
    by: str = ""
    """Which of our ways computes it: "program" or "torch"."""
    words: str = ""


def examine(kind: str, folder: Path) -> Verdict:
    """Nothing is raised for what a model does; whoever calls bounds time and memory."""
    asked = questions(*_LENGTHS)
    try:
        write_architecture(kind, folder)
        expected = by_transformers(folder, asked, _NEW)
    except Exception as error:
        return Verdict(kind, "unmade", words=_first_line(error))
    try:
        by = _by(folder)
        answers = {
            "in company and in pieces": by_the_engine(folder, asked, _NEW),
            "alone": [by_the_engine(folder, [prompt], _NEW, prefill=512)[0] for prompt in asked[:_ALONE]],
        }
    except ModelFileError as error:
        return Verdict(kind, "refused", words=str(error).replace(str(folder), kind))
    except Exception as error:
        return Verdict(kind, "crashed", words=_first_line(error))
    for how, said in answers.items():
        for prompt, right, ours in zip(asked, expected, said, strict=False):
            if (gap := _gap(folder, prompt, right, ours)) > _TIE:
                words = f"{how}, {len(prompt)} tokens: {gap:.3f} below the best"
                return Verdict(kind, "wrong", by, words)
    return Verdict(kind, "equal", by)


def _by(folder: Path) -> str:
    _, runner = runner_of(folder)
    return "program" if runner.native else "torch"


def _gap(folder: Path, prompt: Sequence[int], right: Sequence[int], ours: Sequence[int]) -> float:
    """By how much the first token of ours that differs is below the best, as the model itself has it."""
    place = next(
        (place for place, pair in enumerate(zip(right, ours, strict=True)) if pair[0] != pair[1]), None
    )
    if place is None:
        return 0.0
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = (
            model(input_ids=torch.tensor([[*prompt, *right[:place]]]), use_cache=False).logits[0, -1].float()
        )
    return float(logits.max() - logits[ours[place]])


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
