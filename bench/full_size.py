"""A full-size ChatGLM-6B with random weights: memory while loading and serving, and speed, on a CPU or a GPU.

    python bench/full_size.py write FOLDER [--small]      published layout, float16, 8 shards (12.6 GB of disk)
    python bench/full_size.py run FOLDER [--precisions int4] [--people 1,4] [--device cpu]

On a GPU, in under ten minutes with the writing:

    python bench/full_size.py run FOLDER --device cuda --precisions fp16,int8,int4 --people 1,32

`run` loads at the first precision and switches to the others, and prints JSON: peak memory of the process (VmHWM,
mapped files included) while loading and in all, of the GPU where there is one, and for each precision and number
of conversations the speed of prompts and of decoding, and what decoding reads of memory as a share of what can be
read. --small writes a model of the same layout that a test can run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bandwidth import read_gb_s

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

_SHARDS = 8
_NEW_TOKENS = 24
_FULL = {"hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "inner_hidden_size": 16384,
         "vocab_size": 130528}  # fmt: skip
_SMALL = {"hidden_size": 128, "num_layers": 4, "num_attention_heads": 4, "inner_hidden_size": 512}


def write(folder: Path, small: bool) -> None:
    """Random weights of the published shapes, drawn once and repeated: their values do not matter here."""
    from accelerate import init_empty_weights

    from chatglm_folder import chatglm_config
    from glmbot.models.chatglm.model import ChatGLMForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    config = chatglm_config(folder, "chatglm-6b", **(_SMALL if small else _FULL))
    with init_empty_weights(include_buffers=False):
        module = ChatGLMForCausalLM(config)
    noise = torch.randn(1 << (20 if small else 26)).half()
    names = list(module.named_parameters())
    weight_map: dict[str, str] = {}
    for shard in range(_SHARDS):
        file = f"pytorch_model-{shard + 1:05d}-of-{_SHARDS:05d}.bin"
        part = names[shard * len(names) // _SHARDS : (shard + 1) * len(names) // _SHARDS]
        tensors = {name: _filled(name, parameter.shape, noise) for name, parameter in part}
        torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
        print(f"{file}: {len(tensors)} tensors", file=sys.stderr)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}), "utf-8")


def _filled(name: str, shape: torch.Size, noise: torch.Tensor) -> torch.Tensor:
    if len(shape) == 1:
        norm = "norm" in name and name.endswith("weight")
        return torch.ones(shape).half() if norm else torch.zeros(shape).half()
    repeats = -(-shape.numel() // noise.numel())
    return (noise.repeat(repeats)[: shape.numel()] * shape[-1] ** -0.5).view(shape).clone()


async def run(
    folder: Path, precisions: list[str], people: list[int], device: str, cache_tokens: int
) -> dict[str, Any]:
    from glmbot.engine.base import Precision
    from glmbot.engine.local import LocalEngine, LocalEngineSettings

    kind = torch.device(device)
    began = time.perf_counter()
    engine = await LocalEngine.start(
        LocalEngineSettings(
            folder,
            device=device,
            precision=Precision(precisions[0]),
            cache_tokens=cache_tokens,
            max_batch=max(people),
        )
    )
    bandwidth = read_gb_s(kind)
    figures: dict[str, Any] = {
        "model": "ChatGLM-6B's layout, random weights",
        "device": torch.cuda.get_device_name(kind) if kind.type == "cuda" else "cpu",
        "load_s": time.perf_counter() - began,
        "peak_loading_gb": _peak_gb(),
        "read_gb_s": bandwidth,
        "cache_tokens": engine.stats().cache_tokens_total,
        "precisions": {},
    }
    prompt = engine.chat_format.encode_chat(
        "", (), "".join(f"第{number}条：人工智能，机器{number * 7}。" for number in range(20))
    )
    figures["prompt_tokens"] = len(prompt)
    for name in precisions:
        if kind.type == "cuda":
            torch.cuda.reset_peak_memory_stats(kind)
        if engine.precision != name:
            await engine.set_precision(Precision(name))
        step_bytes = _step_bytes(engine)
        made: dict[str, Any] = {"weight_gb": engine.stats().weight_bytes / 1e9}
        for count in people:
            served = await _serve(engine, prompt, count)
            steps = served["decode_tokens_per_s"] / count
            served["share_of_bandwidth"] = steps * step_bytes / 1e9 / bandwidth
            made[str(count)] = {key: round(value, 3) for key, value in served.items()}
        if kind.type == "cuda":
            made["gpu_peak_gb"] = torch.cuda.max_memory_reserved(kind) / 1e9
        figures["precisions"][name] = made
    figures["peak_gb"] = _peak_gb()
    await engine.close()
    return figures


def _step_bytes(engine: Any) -> int:
    """Weights that a step of decoding reads: all but the table of embeddings."""
    module = engine.thread.runner.model.module
    return engine.stats().weight_bytes - module.transformer.word_embeddings.weight.nbytes


async def _serve(engine: Any, prompt: list[int], people: int) -> dict[str, float]:
    from glmbot.engine.base import Sampling

    began = time.perf_counter()
    firsts: list[float] = []
    tokens = 0

    async def one(person: int) -> None:
        nonlocal tokens
        first = None
        sampling = Sampling(max_tokens=_NEW_TOKENS, temperature=0)
        async for progress in engine.generate(prompt, sampling, user=str(person)):
            if first is None and progress.completion_tokens:
                first = time.perf_counter() - began
                firsts.append(first)
            if progress.finish is not None:
                tokens += progress.completion_tokens

    await asyncio.gather(*(one(person) for person in range(people)))
    whole = time.perf_counter() - began
    decoding = whole - max(firsts)
    return {
        "first_token_s": max(firsts),
        "prompt_tokens_per_s": people * len(prompt) / max(firsts),
        "decode_tokens_per_s": (tokens - people) / decoding if decoding else 0.0,
        "tokens_per_s": tokens / whole,
    }


def _peak_gb() -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["write", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--precisions", default="int4")
    parser.add_argument("--people", default="1,4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache-tokens", type=int, default=2048)
    arguments = parser.parse_args()
    if arguments.action == "write":
        write(arguments.folder, arguments.small)
        return
    people = [int(count) for count in arguments.people.split(",")]
    cache = max(arguments.cache_tokens, max(people) * 400)
    figures = asyncio.run(
        run(arguments.folder, arguments.precisions.split(","), people, arguments.device, cache)
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
