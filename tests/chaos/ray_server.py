"""deploy/ray_serve.py with two replicas on this machine, until it is interrupted: ray_server.py MODEL PORT."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import ray  # pyright: ignore[reportMissingImports]
from ray import serve  # pyright: ignore[reportMissingImports]

from deploy.ray_serve import Arguments, build  # pyright: ignore[reportMissingImports]


def main() -> None:
    ray.init(include_dashboard=False, num_cpus=4, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(build(Arguments(model=Path(sys.argv[1]), replicas=2, threads=1)))
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
