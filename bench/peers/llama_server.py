"""llama.cpp's own server (xllamacpp), through its HTTP interface: llama_server.py GGUF SLOTS THREADS CONTEXT

An order may have "bodies" in place of prompts, for /completion: the answer to each is given back.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import xllamacpp  # pyright: ignore[reportMissingImports]
from protocol import Answer, measured, serve


def start(gguf: str, slots: int, threads: int, context: int) -> Any:
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.n_parallel = slots
    parameters.n_ctx = context * slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_gpu_layers = 0
    parameters.port = 0
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def completion(address: str, body: dict[str, Any]) -> urllib.request.Request:
    return urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )


def whole(address: str, body: dict[str, Any]) -> Answer:
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(completion(address, body)) as response:
            status, said = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        status, said = error.code, error.read().decode(errors="replace")[:1000]
    return {"seconds": time.perf_counter() - began, "status": status, "body": said}


def run(address: str, order: dict[str, Any], slots: int) -> Answer:
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
        times: list[float] = []
        text = ""
        drawn: list[int] = []
        began = time.perf_counter()
        with urllib.request.urlopen(completion(address, body)) as response:
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
    if "bodies" in order:
        with ThreadPoolExecutor(slots) as pool:
            requests = list(pool.map(partial(whole, address), order["bodies"]))
        return {"seconds": time.perf_counter() - began, "requests": requests}
    with ThreadPoolExecutor(len(order["prompts"])) as pool:
        requests = list(pool.map(one, range(len(order["prompts"]))))
    return {"seconds": time.perf_counter() - began, "requests": requests}


def main() -> None:
    slots, threads, context = map(int, sys.argv[2:5])
    server = start(sys.argv[1], slots, threads, context)
    # "CPU : SSE3 = 1 | … | AVX2 = 1 | …": the build's, of which the processor has all.
    built = [word.split(" = ")[0].strip() for word in xllamacpp.get_system_info().split("|")]
    wide = [name for name in built if name.startswith(("AVX", "AMX", "NEON", "DOTPROD", "MATMUL"))]
    # A step reads all of the file's tensors: this model's output head is its table of embeddings.
    ready = {
        "version": xllamacpp.__version__,
        "step_bytes": Path(sys.argv[1]).stat().st_size,
        "instructions": ", ".join(wide),
    }
    serve(ready, lambda order: run(server.listening_address, order, slots))


if __name__ == "__main__":
    main()
