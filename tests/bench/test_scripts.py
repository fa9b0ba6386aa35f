"""The benchmark scripts that need a large machine or a long time, on a small model and a short one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import REPOSITORY
from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings

BENCH = REPOSITORY / "bench"


def script(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_full_size_script_measures_each_precision(tmp_path: Path) -> None:
    """What runs ChatGLM-6B on a GPU, on the CPU with a small model of its layout."""
    script("full_size.py", "write", str(tmp_path / "m"), "--small")
    made = script(
        "full_size.py", "run", str(tmp_path / "m"), "--precisions", "bf16,int8,int4", "--people", "1,8"
    )
    figures = json.loads(made)
    assert list(figures["precisions"]) == ["bf16", "int8", "int4"]
    for at in figures["precisions"].values():
        for people in ("1", "8"):
            assert at[people]["decode_tokens_per_s"] > 0
            assert 0 < at[people]["share_of_bandwidth"] < 2
    weights = [at["weight_gb"] for at in figures["precisions"].values()]
    assert weights == sorted(weights, reverse=True)


async def test_a_short_replay_of_a_busy_chat_accounts_for_everything(tiny_model: Path) -> None:
    """Two hours of it are `bench/replay.py`."""
    replay = module("replay")
    engine = await LocalEngine.start(
        LocalEngineSettings(tiny_model, precision=Precision.INT4, cache_tokens=8192, queue_limit=24)
    )
    report = await replay.replay(engine, hours=0.15, per_second=1.0, faster=60.0)
    await engine.close()
    assert replay.accounted(report), report
    assert report["asked"] > 500
    assert report["ends"]["cancelled"] > 0
    assert report["ends"]["refused"] > 0
    assert sum(report["ends"].values()) == report["asked"]
