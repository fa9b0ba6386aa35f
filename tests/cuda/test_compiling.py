"""NVIDIA's compiler takes every kernel, for every generation of cards that we name."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from glmbot.cuda.kernels import Source, text_of

# Turing, Ampere's two, Ada, Hopper, Blackwell's two.
CARDS = (75, 80, 86, 89, 90, 100, 120)
# What differs between cards is in primitives.cuh, and asked for by any form of weights: one of 4 bits goes through all
# cards, the others through the oldest, which has the fewest instructions.
SOURCES: list[tuple[Source, torch.dtype, tuple[int, ...]]] = [
    (("rows", ""), torch.float16, CARDS),
    (("attention", ""), torch.float16, CARDS),
    (("products", "GLMBOT_ROWS4"), torch.float16, CARDS),
    *(
        (("products", f"GLMBOT_{form}"), torch.float16, (75,))
        for form in ("FLOAT", "ROWS8", "RUNS8", "RUNS4", "GROUPS8", "GROUPS4")
    ),
    # Turing multiplies no bfloat16.
    (("rows", ""), torch.bfloat16, (80,)),
    (("attention", ""), torch.bfloat16, (80,)),
    (("products", "GLMBOT_GROUPS4"), torch.bfloat16, (80, 120)),
]


@pytest.mark.parametrize(("source", "dtype", "cards"), SOURCES, ids=str)
def test_it_compiles(source: Source, dtype: torch.dtype, cards: tuple[int, ...], tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no CUDA toolkit here")
    text, made = tmp_path / "kernels.cu", tmp_path / "kernels.fatbin"
    text.write_text(text_of(source, dtype), "utf-8")
    targets = [f"-gencode=arch=compute_{card},code=sm_{card}" for card in cards]
    command = [compiler, "-fatbin", "-std=c++17", *quick(compiler), *targets, str(text), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"glmbot_{source[0]}".encode() in made.read_bytes(), "it has kernels"


@lru_cache(maxsize=1)
def quick(compiler: str) -> tuple[str, ...]:
    """Whether they compile is the question, not how fast they are."""
    words = subprocess.run([compiler, "--help"], capture_output=True, text=True, check=False).stdout
    return ("--Ofast-compile=max",) if "--Ofast-compile" in words else ()
