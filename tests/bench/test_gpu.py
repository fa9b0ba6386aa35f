"""The GPU path's measurement, whole, on a CPU with a small model of ChatGLM-6B's layout."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bench.test_scripts import BENCH


def test_the_dry_run_does_the_whole_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    gpu: Any = import_module("gpu")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry", "--out", str(tmp_path / "out.json")])
    gpu.main()
    said = capsys.readouterr()
    made = json.loads(said.out)
    assert not any(check["failed"] for check in made["checks"])
    assert list(made["speed"]) == ["fp32", "int8", "int4"]
    for at in made["speed"].values():
        assert "program" in at["by"]
        assert all(one["step_ms"] > 0 and one["plain_step_ms"] > 0 for one in at["decoding"])
    assert made["switches"]["switched"] == made["switches"]["wanted"]
    assert made["peers"]["transformers"]["1 with 8"]["step_ms"] > 0
    assert "switches: 20" in said.err
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["peers"] == made["peers"]


def test_a_part_that_fails_is_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    gpu: Any = import_module("gpu")

    def fails(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(gpu, "check_kernels", fails)
    monkeypatch.setattr(gpu, "_speed_at", fails)
    monkeypatch.setattr(gpu, "_switches", fails)
    made = gpu.measure(gpu.Plan.of(dry=True, minutes=1), ["checks", "speed", "switches"])
    assert made["checks"][0]["failed"] == "RuntimeError: no kernel"
    assert made["speed"]["int8"]["failed"] == "RuntimeError: no kernel"
    assert made["speed"]["int8"]["memory"]["load_s"] > 0
    assert made["switches"]["failed"] == "RuntimeError: no kernel"
    assert "no kernel" in gpu.table(made)
