"""llama.cpp's own server on one model file, until it is killed: llama_server.py GGUF PORT. Prints when it listens."""

from __future__ import annotations

import sys
import threading
from typing import Any

import xllamacpp  # pyright: ignore[reportMissingImports]


def main() -> None:
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.port = int(sys.argv[2])
    parameters.n_parallel = 4
    parameters.n_ctx = 4 * 2048
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
