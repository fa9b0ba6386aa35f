"""The GPU path on the card at hand: kernels against the exact product, a full-size ChatGLM-6B's speed and memory
at each precision, switches under load, and Transformers' own generate beside it. Weights are random and made on
the card, so no file is read.

    python bench/gpu.py                      at most nine minutes; JSON on stdout, progress and a table on stderr
    python bench/gpu.py --only checks,speed  some of its parts: checks, speed, switches, peers
    python bench/gpu.py --dry                the whole plan on a CPU, with a small model of the same layout
    python bench/gpu.py --out FILE           the JSON there too, as it grows

Beside torch it imports what the engine does: transformers, accelerate, psutil, safetensors, sentencepiece, gguf,
llguidance. Where glmbot is not installed, PYTHONPATH=. finds it. What fails is told in the JSON, and the rest goes
on.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from gpu_checks import check_kernels
from gpu_model import FULL, SMALL, Size, program_on_cpu, random_model, random_prompt, runner_of
from gpu_speed import (
    ROOM,
    copy_speed,
    decode,
    graph_ms,
    held,
    plainly,
    prompt_speed,
    step_bytes,
    wait,
)

from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.engine.runner import ModelRunner

__all__ = ["PARTS", "Plan", "measure", "table"]

PARTS = ("checks", "speed", "switches", "peers")
_SHEETS = {"H100 PCIe": 2000, "H100 NVL": 3900, "H100": 3350, "H200": 4800, "A100": 2039, "RTX 4090": 1008,
           "RTX 4070": 504, "RTX 3090": 936, "RTX 3060": 360, "RTX 2080 Ti": 616, "T4": 320}  # fmt: skip
"""GB/s as the makers' data sheets have it."""
_GOALS_GB = {"fp16": 13.0, "int8": 8.0, "int4": 6.0}
_USUAL_CACHE = 2048
_SWITCHES = 20


@dataclass
class Plan:
    device: torch.device
    size: Size
    precisions: tuple[Precision, ...]
    loads: tuple[tuple[int, int], ...]
    """How many people, and the tokens that each conversation has."""
    prompts: tuple[int, ...]
    minutes: float
    seconds_each: float
    copied: int
    said: list[str] = field(default_factory=list[str])
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, *, dry: bool, minutes: float) -> Plan:
        if dry:
            plain = (Precision.FP32, Precision.INT8, Precision.INT4)
            return cls(torch.device("cpu"), SMALL, plain, ((1, 8), (3, 8)), (40,), minutes, 0.02, 1 << 20)
        if not torch.cuda.is_available():
            raise SystemExit("bench/gpu.py: torch finds no card here; --dry is the plan on a CPU")
        cards = (Precision.FP16, Precision.INT8, Precision.INT4)
        loads = ((1, 32), (8, 32), (32, 32), (32, 1000))
        return cls(torch.device("cuda", 0), FULL, cards, loads, (1000, 2000), minutes, 0.6, 1 << 31)

    def say(self, words: str) -> None:
        line = f"{time.monotonic() - self.began:6.1f} s  {words}"
        self.said.append(line)
        print(line, file=sys.stderr, flush=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.minutes * 60 - (time.monotonic() - self.began)


def measure(plan: Plan, parts: Sequence[str], out: Path | None = None) -> dict[str, Any]:
    """Each part by itself: what one of them stumbles over is in its place."""
    made: dict[str, Any] = {"machine": _machine(plan)}
    work: dict[str, Callable[[Plan, dict[str, Any]], Any]] = {
        "checks": _checks,
        "speed": _speed,
        "switches": _switches,
        "peers": _peers,
    }
    for part in parts:
        made[part] = attempt(plan, part, lambda part=part: work[part](plan, made["machine"]))
        _free()
        if out is not None:
            out.write_text(json.dumps(made, indent=1), "utf-8")
    made["seconds"] = round(time.monotonic() - plan.began, 1)
    return made


def attempt(plan: Plan, what: str, do: Callable[[], Any]) -> Any:
    if plan.left < 0:
        return {"left_out": "no time was left"}
    plan.say(what)
    try:
        return do()
    except Exception as error:
        plan.say(f"{what} failed: {type(error).__name__}: {error}"[:400])
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _machine(plan: Plan) -> dict[str, Any]:
    made: dict[str, Any] = {
        "torch": torch.__version__,
        "triton": _version("triton"),
        "transformers": _version("transformers"),
        "card": "none",
        "copy_gb_s": round(copy_speed(plan.device, plan.copied) / 1e9, 1),
    }
    if plan.device.type == "cuda":
        properties = torch.cuda.get_device_properties(plan.device)
        name = properties.name
        made |= {
            "card": name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "driver": _driver(),
            "sheet_gb_s": next((speed for known, speed in _SHEETS.items() if known in name), None),
        }
    return made


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _checks(plan: Plan, _machine: dict[str, Any]) -> list[Any]:
    dtypes = [torch.float32] if plan.device.type == "cpu" else [torch.float16, torch.bfloat16]
    return [
        attempt(
            plan,
            f"kernels, {dtype}",
            lambda dtype=dtype: check_kernels(plan.device, plan.size, dtype, plan.say),
        )
        for dtype in dtypes
    ]


def _speed(plan: Plan, machine: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for precision in plan.precisions:
        made[precision] = {
            "memory": attempt(plan, f"{precision}: memory", lambda at=precision: _memory(plan, at)),
            **attempt(plan, f"{precision}: speed", lambda at=precision: _speed_at(plan, at, machine)),
        }
        _free()
    return made


def _memory(plan: Plan, precision: Precision) -> dict[str, Any]:
    """Of loading and one conversation on a card that has just room for it, with as much cache as one of the
    model's whole length needs."""
    card = plan.device.type == "cuda"
    _free()
    if card:
        torch.cuda.reset_peak_memory_stats(plan.device)
    began = time.perf_counter()
    runner = runner_of(plan.size, plan.device, precision, _USUAL_CACHE, sparing=True)
    loaded = time.perf_counter() - began
    with held(runner, 1, plan.loads[0][1]) as one:
        for _ in range(4):
            one.step()
    made: dict[str, Any] = {"load_s": round(loaded, 2), "weights_gb": round(runner.weight_bytes / 1e9, 2)}
    made["cache_gb"] = round(runner.cache_bytes / 1e9, 2)
    if card:
        made["peak_allocated_gb"] = round(torch.cuda.max_memory_allocated(plan.device) / 1e9, 2)
        made["peak_reserved_gb"] = round(torch.cuda.max_memory_reserved(plan.device) / 1e9, 2)
        free, whole = torch.cuda.mem_get_info(plan.device)
        made["used_of_card_gb"] = round((whole - free) / 1e9, 2)
        made["goal_gb"] = _GOALS_GB[precision]
    return made


def _speed_at(plan: Plan, precision: Precision, machine: dict[str, Any]) -> dict[str, Any]:
    most = max(people * (tokens + ROOM) for people, tokens in plan.loads)
    runner = runner_of(plan.size, plan.device, precision, max(most, max(plan.prompts) + ROOM))
    made: dict[str, Any] = {"by": _by(runner), "decoding": [], "prompts": {}}
    for people, tokens in plan.loads:
        what = f"{precision}: {people} people with {tokens} tokens each"
        made["decoding"].append(
            {"people": people, "tokens": tokens}
            | attempt(plan, what, lambda p=people, t=tokens: _decoding(plan, runner, p, t, machine))
        )
    for tokens in plan.prompts:
        what = f"{precision}: a prompt of {tokens}"
        made["prompts"][str(tokens)] = attempt(plan, what, lambda t=tokens: _prompts(plan, runner, t))
    return made


def _by(runner: ModelRunner) -> str:
    lowered = runner.lowered
    given_up = "" if runner.part.fast is None else f"; given up: {runner.part.fast.given_up}"
    if lowered is None:
        return f"torch's modules{given_up}"
    return f"program, with {', '.join(runner.part.fast_parts) or 'torch alone'}{given_up}"


def _decoding(
    plan: Plan, runner: ModelRunner, people: int, tokens: int, machine: dict[str, Any]
) -> dict[str, Any]:
    with held(runner, people, tokens) as talk:
        whole = decode(talk, plan.seconds_each)
        size = step_bytes(runner, people, talk.sequences[0].computed)
        made: dict[str, Any] = {
            "step_ms": round(whole, 3),
            "tokens_per_s": round(1000 * people / whole, 1),
            "step_gb": round(size / 1e9, 3),
            "of_copy": share(size, whole, machine["copy_gb_s"]),
            "of_sheet": share(size, whole, machine.get("sheet_gb_s")),
        }
        captured = attempt(plan, "  its graph", lambda: graph_ms(runner, talk.sequences))
        if isinstance(captured, float):
            made |= {
                "graph_ms": round(captured, 3),
                "graph_of_copy": share(size, captured, machine["copy_gb_s"]),
                "graph_of_sheet": share(size, captured, machine.get("sheet_gb_s")),
            }
        elif captured is not None:
            made["graph"] = captured
        with plainly(runner):
            slow = attempt(plan, "  plainly", lambda: decode(talk, plan.seconds_each))
    if isinstance(slow, float):
        made |= {"plain_step_ms": round(slow, 3), "times_as_fast": round(slow / whole, 2)}
    plan.say(f"  {made['step_ms']} ms a step, {made['of_copy']} of the copy's speed")
    return made


def share(size: int, milliseconds: float, gb_s: float | None) -> float | None:
    """Of what could be read of memory in this time."""
    return None if not gb_s else round(size / 1e6 / milliseconds / gb_s, 3)


def _prompts(plan: Plan, runner: ModelRunner, tokens: int) -> dict[str, float]:
    made = {"tokens_per_s": round(prompt_speed(runner, tokens, plan.say), 1)}
    with plainly(runner):
        made["plain_tokens_per_s"] = round(prompt_speed(runner, tokens, plan.say), 1)
    return made


def _switches(plan: Plan, _machine: dict[str, Any]) -> dict[str, Any]:
    """Between two steps of conversations that go on, as the engine switches."""
    card = plan.device.type == "cuda"
    runner = runner_of(plan.size, plan.device, plan.precisions[0], _USUAL_CACHE)
    made: list[dict[str, Any]] = []
    people, tokens = plan.loads[1]
    with held(runner, people, tokens) as talk:
        for precision in islice(cycle((*plan.precisions[1:], plan.precisions[0])), _SWITCHES):
            if plan.left < 30:
                break
            talk.step(undisturbed=False)
            wait(plan.device)
            if card:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(plan.device)
            began = time.perf_counter()
            runner.set_precision(precision)
            one: dict[str, Any] = {"to": precision, "seconds": round(time.perf_counter() - began, 3)}
            program_on_cpu(runner)
            if card:
                one["peak_reserved_gb"] = round(torch.cuda.max_memory_reserved(plan.device) / 1e9, 2)
            one["by"] = _by(runner)
            for _ in range(2):
                talk.step(undisturbed=False)
            made.append(one)
            plan.say(f"  to {precision} in {one['seconds']} s")
    return {"switched": len(made), "wanted": _SWITCHES, "each": made}


def _peers(plan: Plan, _machine: dict[str, Any]) -> dict[str, Any]:
    transformers = attempt(plan, "Transformers' generate", lambda: _transformers(plan))
    # Its list of models has ChatGLM2 and 3, not the first.
    found = importlib.util.find_spec("vllm") is not None
    vllm = "installed, and does not know ChatGLM-6B" if found else "not installed"
    return {"transformers": transformers, "vllm": vllm}


@torch.inference_mode()
def _transformers(plan: Plan) -> dict[str, Any]:
    """The same module with Transformers' cache, attention and loop, in the widest precision."""
    model = random_model(plan.size, plan.device, "sdpa")
    activations = torch.float32 if plan.device.type == "cpu" else None
    fill(model.module, model.checkpoint, plan.precisions[0], Placement(plan.device, activations=activations))
    module: Any = model.module
    made: dict[str, Any] = {}
    for people, tokens in plan.loads:
        if plan.left < 10:
            break
        prompts = [random_prompt(module.config, tokens, number) for number in range(people)]
        ids = torch.tensor(prompts, device=plan.device)
        few, many = (_generated(plan, module, ids, new) for new in (2, 18))
        made[f"{people} with {tokens}"] = {
            "step_ms": round(1000 * (many - few) / 16, 3),
            "tokens_per_s": round(16 * people / (many - few), 1),
        }
        plan.say(f"  {people} with {tokens} tokens: {made[f'{people} with {tokens}']['step_ms']} ms a step")
    return made


def _generated(plan: Plan, module: Any, ids: torch.Tensor, new: int) -> float:
    """Seconds, at best of two."""
    taken: list[float] = []
    for _ in range(2):
        wait(plan.device)
        began = time.perf_counter()
        module.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False
        )
        wait(plan.device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def table(made: dict[str, Any]) -> str:
    """What a person wants to see first."""
    machine = made["machine"]
    lines = [f"{machine['card']}, torch {machine['torch']}, copies at {machine['copy_gb_s']} GB/s"]
    for found in made.get("checks") or ():
        bad = found.get("failed")
        lines.append(f"kernels {found.get('dtype', '')}: {bad or 'all within what their dtype explains'}")
    speed = made.get("speed", {})
    if isinstance(speed, dict) and "failed" not in speed:
        lines.append("at    people tokens  step ms   tok/s  of copy  of sheet  graph ms  of copy  plain ms")
        for precision, at in speed.items():
            lines += [_line(precision, one) for one in at.get("decoding", ())]
            for tokens, one in at.get("prompts", {}).items():
                lines.append(f"{precision}  prompt of {tokens}: {one}")
            lines.append(f"{precision}  memory: {at.get('memory')}")
    if (switches := made.get("switches")) and "each" in switches:
        seconds = [each["seconds"] for each in switches["each"]]
        lines.append(f"switches: {len(seconds)}, {min(seconds, default=0)} to {max(seconds, default=0)} s")
    for name in ("speed", "switches", "peers"):
        part = made.get(name, {})
        if set(part) & {"failed", "left_out"}:
            lines.append(f"{name}: {part}")
    if "peers" in made:
        lines.append(f"peers: {made['peers']}")
    return "\n".join(lines)


def _line(precision: str, one: dict[str, Any]) -> str:
    if "step_ms" not in one:
        return f"{precision:5} {one['people']:6} {one['tokens']:6}  {one}"
    columns = ("step_ms", "tokens_per_s", "of_copy", "of_sheet", "graph_ms", "graph_of_copy", "plain_step_ms")
    cells = " ".join(f"{one.get(each) if one.get(each) is not None else '–':>8}" for each in columns)
    return f"{precision:5} {one['people']:6} {one['tokens']:6} {cells}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    made = measure(Plan.of(dry=arguments.dry, minutes=arguments.minutes), parts, arguments.out)
    print(json.dumps(made, indent=1))
    print(table(made), file=sys.stderr)


if __name__ == "__main__":
    main()
