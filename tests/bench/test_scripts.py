"""The benchmark scripts that need a large machine or a long time, on a small model and a short one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings

BENCH = REPOSITORY / "bench"


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


async def test_the_script_of_schemas_counts_what_is_valid(tiny_model: Path) -> None:
    made = await module("valid_calls").measure(tiny_model, 4, 2)
    assert made["valid"] == made["asked"] == 4
    assert made["not_valid"] == []


def test_the_full_size_script_measures_each_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs ChatGLM-6B on a GPU, on the CPU with a small model of its layout."""
    monkeypatch.syspath_prepend(BENCH)
    full_size = module("full_size")
    # Still several times what any cache holds.
    monkeypatch.setattr("bandwidth._READ_BYTES", 1 << 27)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["full_size.py", *arguments])
        full_size.main()
        return capsys.readouterr().out

    run("write", str(tmp_path / "m"), "--small")
    figures = json.loads(run("run", str(tmp_path / "m"), "--precisions", "bf16,int8,int4", "--people", "1,8"))
    assert list(figures["precisions"]) == ["bf16", "int8", "int4"]
    for at in figures["precisions"].values():
        for people in ("1", "8"):
            assert at[people]["decode_tokens_per_s"] > 0
            assert 0 < at[people]["share_of_bandwidth"] < 2
    weights = [at["weight_gb"] for at in figures["precisions"].values()]
    assert weights == sorted(weights, reverse=True)


async def test_a_short_replay_of_a_busy_chat_accounts_for_everything(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours of it are `bench/replay.py`; here a crowd comes more often instead."""
    replay = module("replay")
    monkeypatch.setattr(replay, "_CROWDS", 1 / 50)
    engine = await LocalEngine.start(
        LocalEngineSettings(
            tiny_model, precision=Precision.INT4, cache_tokens=8192, queue_limit=24, threads=1
        )
    )
    report = await replay.replay(engine, hours=0.05, per_second=1.0, faster=60.0)
    await engine.close()
    assert replay.accounted(report), report
    assert report["asked"] > 500
    assert report["ends"]["cancelled"] > 0
    assert report["ends"]["refused"] > 0
    assert sum(report["ends"].values()) == report["asked"]
