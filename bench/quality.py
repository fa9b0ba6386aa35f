"""Perplexity of the model at each precision, on a fixed text, through the engine's own decode step.

    .venv/bin/python bench/quality.py [MODEL_FOLDER] [--windows N]

Prints JSON: each precision's perplexity, and its ratio to the float32 model's of the same run. The text is the
Apache licence (LICENSE of this repository) and the READMEs, English and Chinese; each token is predicted from up
to 511 before it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Chunk, Sequence
from glmbot.models.registry import load

ROOT = Path(__file__).parent.parent
DEFAULT = ROOT / ".glmbot/models/smollm2-135m-instruct"
_WINDOW = 512
_TEXTS = ("LICENSE", "README.md", "README.zh.md")


def perplexity(runner: ModelRunner, tokens: list[int], windows: int) -> float:
    """exp of the mean negative log-likelihood of all but each window's first token."""
    total, count = 0.0, 0
    for start in range(0, windows * _WINDOW, _WINDOW):
        window = tokens[start : start + _WINDOW]
        sequence = Sequence(0, "bench", 1, window[:1], Sampling(max_tokens=_WINDOW), 0.0)
        sequence.place = runner.allocator.take(_WINDOW)
        for token in window[1:]:
            logits = runner.step([Chunk(sequence, 1)])[0]
            total -= float(torch.log_softmax(logits.float(), -1)[token])
            count += 1
            sequence.computed += 1
            sequence.tokens.append(token)
        assert sequence.place is not None
        runner.allocator.give_back(sequence.place)
    return math.exp(total / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--precisions", default="fp32,bf16,int8,int4")
    arguments = parser.parse_args()
    register_attention()
    model = load(arguments.folder, ATTENTION_NAME)
    share = arguments.windows * _WINDOW // len(_TEXTS) + 1
    texts = [model.chat_format.encode_text((ROOT / name).read_text("utf-8"))[:share] for name in _TEXTS]
    tokens = [token for text in texts for token in text]
    runner: ModelRunner | None = None
    report: dict[str, Any] = {"model": model.name, "tokens": arguments.windows * (_WINDOW - 1)}
    for name in arguments.precisions.split(","):
        precision = Precision(name)
        if runner is None:
            runner = ModelRunner(
                model, placement=Placement(torch.device("cpu")), precision=precision, cache_tokens=2048
            )
        else:
            runner.set_precision(precision)
        report[name] = round(perplexity(runner, tokens, arguments.windows), 4)
    first = arguments.precisions.split(",")[0]
    report["ratios"] = {
        name: round(report[name] / report[first], 4) for name in arguments.precisions.split(",")[1:]
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
