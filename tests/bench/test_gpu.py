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


def test_the_page_of_cards_is_written_from_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    pages: Any = import_module("gpu_page")
    decoding = [
        {"people": 32, "tokens": 1000, "step_ms": 8.0, "of_copy": 0.61, "tokens_per_s": 4000.0,
         "graph_ms": 7.5, "graph_of_copy": 0.65, "plain_step_ms": 120.0},
        {"people": 8, "tokens": 32, "failed": "MemoryError: the cache is full"},
    ]  # fmt: skip
    speed = {
        "memory": {"peak_reserved_gb": 12.9},
        "decoding": decoding,
        "prompts": {"1000": {"tokens_per_s": 9000.0, "plain_tokens_per_s": 3000.0}},
    }
    machine = {"card": "H100", "driver": "580", "torch": "2.11", "copy_gb_s": 3000.0}
    peers = {"transformers": {"32 with 1000": {"step_ms": 60.0}}}
    first = {"machine": machine, "speed": {"failed": "RuntimeError: lost"}, "peers": peers}
    second = {"machine": machine, "speed": {"fp16": speed}, "switches": {"each": [{"seconds": 2.0}]}}
    for name, report in (("a", first), ("b", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report), "utf-8")
    (tmp_path / "docs").mkdir()
    for name in ("performance.md", "performance.zh.md"):
        (tmp_path / "docs" / name).write_text("x\n<!-- gpu -->\nold\n<!-- /gpu -->\ny\n", "utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu_page.py", *(str(tmp_path / f"{name}.json") for name in "ab")])
    pages.main()
    english, chinese = (
        (tmp_path / "docs" / name).read_text("utf-8") for name in ("performance.md", "performance.zh.md")
    )
    row = "| fp16 | 32 · 1000 | 8.00 ms | 61% | 7.50 ms | 65% | 4000 | 120.00 ms | 60.00 ms |"
    assert row in english
    assert row in chinese
    assert "1000 tokens at fp16 9000 (by torch's modules 3000)" in english
    assert "1 switches under load, each in 2.0 to 2.0 s" in english
    assert "fp16 12.9 GB" in chinese
    assert "8 · 32" not in english
    assert "old" not in english
