"""`make chaos`: kill -9 at named points, faults of Redis, a model server that dies. Prints counts, then
`N passed, N failed`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from chaos.faults import platform_faults, redis_faults  # noqa: E402
from chaos.interrupted import interrupted_work  # noqa: E402
from chaos.kills import Counts, Zygote, kill_matrix, points_of  # noqa: E402
from chaos.model_servers import model_server_faults  # noqa: E402
from chaos.people import OneBotPeople, SlackPeople, TelegramPeople  # noqa: E402
from chaos.ray_replicas import ray_faults  # noqa: E402
from chaos.redis_groups import redis_group_faults  # noqa: E402
from chaos.tools import tool_kills  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a part of the names of points or faults")
    only = parser.parse_args().only
    totals: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "tiny")
        zygote = Zygote()
        await zygote.start()
        for people in (TelegramPeople, SlackPeople, OneBotPeople):
            points = points_of(people, only)
            for kind in ("sqlite", "redis"):
                began, name = time.monotonic(), f"kill -9, {people.platform}, {kind}"
                counts = totals[name] = await kill_matrix(zygote, model, kind, people, points)
                print(f"{name}: {len(points)} points in {time.monotonic() - began:.0f} s", flush=True)
                complain(counts)
        parts = {
            "kill -9 around calls of tools": partial(tool_kills, only),
            "kill -9 in a store's long work": partial(interrupted_work, only),
            "faults of platforms": partial(platform_faults, zygote, model, only),
            "faults of Redis": partial(redis_faults, zygote, model, only),
            "failovers and moves of Redis": partial(redis_group_faults, zygote, model, only),
            "model servers that die": partial(model_server_faults, zygote, only),
            "replicas of Ray Serve that die": partial(ray_faults, zygote, only),
        }
        for name, part in parts.items():
            began = time.monotonic()
            counts = totals[name] = await part()
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            complain(counts)
        await zygote.stop()
    report(totals)


def complain(counts: Counts) -> None:
    for complaint in counts.complaints:
        print("  FAIL", complaint, flush=True)


def report(totals: dict[str, Counts]) -> None:
    for name, counts in totals.items():
        print(
            f"{name}: {counts.passed} passed, {counts.failed} failed; answers lost {counts.lost},"
            f" doubled {counts.doubled}, misordered {counts.misordered}; messages left that say nothing"
            f" {counts.leftovers}; said that it may stand there twice {counts.repeats}"
        )
    passed, failed = (sum(getattr(each, name) for each in totals.values()) for name in ("passed", "failed"))
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    asyncio.run(main())
