"""llama.cpp's own server (xllamacpp), through its HTTP interface: llama_server.py GGUF SLOTS THREADS"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp  # pyright: ignore[reportMissingImports]
from protocol import Answer, measured, serve


def start(gguf: str, slots: int, threads: int) -> Any:
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.n_parallel = slots
    parameters.n_ctx = 2048 * slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_gpu_layers = 0
    parameters.port = 0
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def run(address: str, order: dict[str, Any]) -> Answer:
    def one(number: int) -> Answer:
        time.sleep(order["delays"][number])
        body = {
            "prompt": order["prompts"][number],
            "n_predict": order["new_tokens"][number],
            "ignore_eos": order.get("ignore_eos", True),
            "temperature": 0,
            "stream": True,
            "cache_prompt": True,
            "return_tokens": True,
        }
        request = urllib.request.Request(
            f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        times: list[float] = []
        text = ""
        drawn: list[int] = []
        began = time.perf_counter()
        with urllib.request.urlopen(request) as response:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                if event.get("stop"):
                    continue
                text += event["content"]
                drawn += event.get("tokens", [])
                times.append(time.perf_counter())
                if order["cancels"][number] is not None and len(times) >= order["cancels"][number]:
                    break
        return measured(began, times, text) | {"drawn": drawn}

    began = time.perf_counter()
    with ThreadPoolExecutor(len(order["prompts"])) as pool:
        requests = list(pool.map(one, range(len(order["prompts"]))))
    return {"seconds": time.perf_counter() - began, "requests": requests}


def main() -> None:
    server = start(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    # "CPU : SSE3 = 1 | … | AVX2 = 1 | …": the build's, of which the processor has all.
    built = [word.split(" = ")[0].strip() for word in xllamacpp.get_system_info().split("|")]
    wide = [name for name in built if name.startswith(("AVX", "AMX", "NEON", "DOTPROD", "MATMUL"))]
    # A step reads all of the file's tensors: this model's output head is its table of embeddings.
    ready = {
        "version": xllamacpp.__version__,
        "step_bytes": Path(sys.argv[1]).stat().st_size,
        "instructions": ", ".join(wide),
    }
    serve(ready, lambda order: run(server.listening_address, order))


if __name__ == "__main__":
    main()
