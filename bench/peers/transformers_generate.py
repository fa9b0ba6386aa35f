"""Transformers: transformers_generate.py MODEL_FOLDER DTYPE generate|batching

`generate` runs one padded batch; `batching` is its continuous batching. Neither streams here.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import transformers
from protocol import Answer, serve
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig


def run(model: Any, kind: str, order: dict[str, Any]) -> Answer:
    rows: list[list[int]] = order["prompts"]
    new_tokens = max(order["new_tokens"])
    settings: dict[str, Any] = {"max_new_tokens": new_tokens, "do_sample": False, "repetition_penalty": 1.0}
    began = time.perf_counter()
    if kind == "generate":
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        model.generate(ids, attention_mask=mask, min_new_tokens=new_tokens, pad_token_id=0, **settings)
    else:
        # An end token that is none keeps every answer going to its last token.
        config = GenerationConfig(eos_token_id=-1, pad_token_id=0, **settings)
        # By itself it takes most of the machine's memory for its cache, and clears it at each call.
        cache = ContinuousBatchingConfig(num_blocks=96, max_batch_tokens=1024)
        made = model.generate_batch(
            rows, generation_config=config, continuous_batching_config=cache, progress_bar=False
        )
        if any(len(output.generated_tokens) < new_tokens for output in made.values()):
            raise RuntimeError("an answer ended early")
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "requests": [{"first": None, "gaps": None, "tokens": new_tokens} for _ in rows],
    }


def main() -> None:
    folder, dtype, kind = sys.argv[1:4]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    ready = {"version": transformers.__version__}
    ready["instructions"] = f"torch, {torch.backends.cpu.get_cpu_capability()}, {dtype}"
    serve(ready, lambda order: run(model.eval(), kind, order))


if __name__ == "__main__":
    main()
