"""`make models`: every causal architecture of the installed Transformers, each tiny and random, against its own code.

Each is examined in a process of its own with a bound on time and memory, and its verdict is kept under .glmbot/sweep, so
that a sweep goes on where it ended; `--again` begins anew, and names of architectures examine those alone. At the end
docs/architectures.md and its Chinese page are written. About 20 s for each; exit status 1 when one answers wrongly or
crashes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "adapters")]

import torch  # noqa: E402
import transformers  # noqa: E402

from sweep.one import VERDICTS, Verdict, examine  # noqa: E402
from sweep.page import write_pages  # noqa: E402
from tiny_architectures import KINDS  # noqa: E402

KEPT = ROOT / ".glmbot" / "sweep"
# Of the processor; a busy machine may take longer.
_CPU_S = 240
_TIME_S = 1200.0
_MEMORY = 6 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="architectures, by the model_type of their config.json")
    parser.add_argument("--again", action="store_true", help="forget the verdicts of before")
    parser.add_argument("--pages", action="store_true", help="only write the pages")
    arguments = parser.parse_args()
    # Whose end is asked for ends the process that it waits for, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    every = KINDS
    KEPT.mkdir(parents=True, exist_ok=True)
    chosen = [] if arguments.pages else arguments.kinds or every
    for number, kind in enumerate(chosen, 1):
        file = KEPT / f"{kind}.json"
        if file.is_file() and not arguments.again and not arguments.kinds:
            continue
        began = time.monotonic()
        verdict = bounded(kind)
        file.write_text(json.dumps(asdict(verdict)), "utf-8")
        seconds = time.monotonic() - began
        print(
            f"{number}/{len(chosen)} {kind}: {verdict.verdict} {verdict.by} {verdict.words} ({seconds:.0f} s)",
            flush=True,
        )
    kept = [
        Verdict(**json.loads(file.read_text("utf-8")))
        for kind in every
        if (file := KEPT / f"{kind}.json").is_file()
    ]
    counts = Counter(verdict.verdict for verdict in kept)
    print(", ".join(f"{counts[name]} {name}" for name in VERDICTS), f"of {len(every)}")
    if len(kept) == len(every):
        write_pages(ROOT / "docs", kept, transformers.__version__)
    return bool(counts["wrong"] or counts["crashed"])


def bounded(kind: str) -> Verdict:
    """The verdict of a process that is ended after so much time, and has no more memory than it may."""
    # What is imported here is there in the child; nothing is computed before, for threads do not survive a fork.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(kind, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if ours.poll(_TIME_S):
            return Verdict(**ours.recv())
        return Verdict(kind, "crashed", words=f"took more than {_TIME_S:.0f} s")
    except EOFError:
        process.join()
        return Verdict(kind, "crashed", words=f"ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _child(kind: str, verdict: Connection) -> None:
    mapped = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _MEMORY, mapped + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        verdict.send(asdict(examine(kind, Path(folder) / kind)))


if __name__ == "__main__":
    sys.exit(main())
