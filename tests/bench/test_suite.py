"""What the comparison of engines makes of its times, with made-up ones, and the neighbour that keeps a core busy."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "bench"))

import figures
import report
import suite
from marks import between
from neighbour import busy_core


def measured(total: float, decoding: float | None = None, first: float | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"tokens_per_second": total, "rounds": 1}
    if decoding is not None:
        made |= {"decode_per_stream": decoding, "first_token_s": first, "first_token_p99_s": first}
        made |= {"per_token_ms": 1000 / decoding, "per_token_p99_ms": 2000 / decoding}
    return made


TOGETHER = {
    "glmbot int4": {"1": measured(30, 80, 0.5), "8": measured(120, 20, 2.0)},
    "glmbot bf16": {"1": measured(20, 40, 0.6), "8": measured(60, 10, 3.0)},
    "llama.cpp Q4_0": {"1": measured(40, 100, 0.8), "8": measured(60, 9, 5.0)},
    "OpenVINO Q4_0": {"1": measured(30, 50, 0.4), "8": measured(80, 12, 3.0)},
    "transformers generate": {"1": measured(10), "8": measured(90)},
}
BUSY = {
    "glmbot int4": {"1": measured(20, 60, 1.0), "8": measured(60, 10, 4.0)},
    "llama.cpp Q4_0": {"1": measured(10, 25, 3.2), "8": measured(30, 4, 10.0)},
}


def test_each_figure_is_held_against_the_best_peer_of_that_figure() -> None:
    found = figures.ratios(TOGETHER)
    assert list(found) == ["glmbot int4", "glmbot bf16"], (
        "peers are not compared with each other, nor ours with ours"
    )
    int4 = found["glmbot int4"]
    assert int4["decoding_1"] == {"ours": 80, "peer": "llama.cpp Q4_0", "theirs": 100, "ratio": 0.8}
    assert int4["total_8"] == {"ours": 120, "peer": "transformers generate", "theirs": 90, "ratio": 1.333}
    assert int4["first_token_1"] == {"ours": 0.5, "peer": "OpenVINO Q4_0", "theirs": 0.4, "ratio": 1.25}
    assert found["glmbot bf16"]["first_token_1"]["ratio"] == 1.5


def test_figures_that_nobody_measured_have_no_ratio() -> None:
    assert figures.ratios({"glmbot int4": {"1": measured(30, 80, 0.5)}}) == {"glmbot int4": {}}
    only = {"glmbot int4": {"1": measured(30, 80, 0.5)}, "transformers generate": {"1": measured(10)}}
    assert figures.ratios(only) == {"glmbot int4": {}}
    assert figures.ratios({"llama.cpp Q4_0": {"1": measured(40, 100, 0.8)}}) == {}


def test_what_remains_beside_a_busy_core_is_a_share_of_the_quiet_speed() -> None:
    assert figures.busy_to_quiet(TOGETHER, BUSY) == {
        "glmbot int4": {"decoding_1": 0.75, "total_8": 0.5, "first_token_1": 0.5},
        "llama.cpp Q4_0": {"decoding_1": 0.25, "total_8": 0.5, "first_token_1": 0.25},
    }


def test_shares_of_the_bandwidth_come_from_the_time_of_a_token() -> None:
    together = {"glmbot int4": {"1": measured(30, 100, 0.5)}, "transformers generate": {"1": measured(10)}}
    together["glmbot int8"] = {"1": measured(30, 100, 0.5) | {"per_token_ms": 0.0}}
    figures.put_shares(together, dict.fromkeys((*together, "nobody"), 100_000_000), 20.0)
    assert "share_of_bandwidth" not in together["glmbot int8"]["1"], "in pairs: the median of the gaps is 0"
    assert together["glmbot int4"]["1"]["share_of_bandwidth"] == 0.5, "0.1 GB in 10 ms are 10 of 20 GB/s"
    assert "share_of_bandwidth" not in together["transformers generate"]["1"]


def test_medians_are_taken_over_all_requests_of_all_rounds() -> None:
    def answer(seconds: float, first: float | None) -> dict[str, Any]:
        gaps = None if first is None else [0.1, 0.1, 0.3]
        return {"seconds": seconds, "requests": [{"first": first, "gaps": gaps, "tokens": 4}]}

    made = figures.summary([answer(1.0, 0.5), answer(2.0, 0.7), answer(4.0, 0.9)])
    assert made["tokens_per_second"] == 2.0
    assert made["first_token_s"] == 0.7
    assert made["per_token_ms"] == 100.0
    assert made["decode_per_stream"] == 6.0
    assert figures.summary([answer(2.0, None)]) == {"tokens_per_second": 2.0, "rounds": 1}


def test_a_neighbour_keeps_one_core_busy_until_it_is_told_to_end() -> None:
    with busy_core() as pid:
        process = psutil.Process(pid)
        before = process.cpu_times().user
        # However busy the machine is, it is given some of the processor's time.
        ends = time.monotonic() + 60
        while process.cpu_times().user < before + 0.05:
            assert time.monotonic() < ends
            time.sleep(0.01)
        if sys.platform == "linux":
            assert len(process.cpu_affinity()) == 1
    assert not psutil.pid_exists(pid)


def test_a_neighbour_ends_with_whoever_started_it() -> None:
    with busy_core() as pid:
        process = psutil.Process(pid)
        (mine,) = (child for child in psutil.Process().children() if child.pid == pid)
        assert mine == process
        # As when this process is killed: the other end of its input is closed.
        with pytest.raises(RuntimeError, match="given up"), busy_core() as second:
            raise RuntimeError("given up")
        assert not psutil.pid_exists(second)


class Engine:
    """It counts who else of our children runs while it is asked."""

    def __init__(self, name: str, *, streams: bool = True) -> None:
        self.name = name
        self.streams = streams
        self.most = 8
        self.beside: list[int] = []

    def ask(self, prompts: list[list[int]]) -> dict[str, Any]:
        self.beside.append(len(psutil.Process().children()))
        request = {"first": 0.1, "gaps": [0.1], "tokens": 2}
        return {"seconds": 1.0, "requests": [request] * len(prompts)}


class Prompts:
    def new(self, count: int) -> list[list[int]]:
        return [[1]] * count


def test_engines_take_turns_and_the_neighbour_is_there_only_when_it_is_asked_for() -> None:
    before = len(psutil.Process().children())
    engines: Any = [Engine("one"), Engine("two")]
    prompts: Any = Prompts()
    quiet = suite.concurrency(engines, prompts, (1, 4, 16), 3)
    assert {name: list(counts) for name, counts in quiet.items()} == {"one": ["1", "4"], "two": ["1", "4"]}
    assert quiet["one"]["1"]["rounds"] == 3
    assert quiet["one"]["4"]["rounds"] == 1, "what is not compared is measured once"
    busy = suite.concurrency(engines, prompts, (1,), 2, busy=True)
    assert busy["two"]["1"]["rounds"] == 2
    for engine in engines:
        assert engine.beside == [before] * 4 + [before + 1] * 2
    slow = suite.concurrency([*engines, cast("Any", Engine("slow", streams=False))], prompts, (8,), 3)
    assert {name: made["8"]["rounds"] for name, made in slow.items()} == {"one": 3, "two": 3, "slow": 1}
    assert len(psutil.Process().children()) == before


def results() -> dict[str, Any]:
    run = {
        "read_gb_s": 33.0,
        "engines": {name: {"version": "1", "instructions": "AVX2"} for name in TOGETHER},
        "together": TOGETHER,
        "beside_a_busy_core": BUSY,
        "ratios": figures.ratios(TOGETHER),
        "ratios_beside_a_busy_core": figures.ratios(BUSY),
        "second_turn": {"glmbot int4": {"first_turn_s": 0.5, "second_turn_s": 0.1, "ratio": 0.2}},
        "replay": {"glmbot int4": measured(50, 20, 0.3)},
        "peak_mb": {"glmbot int4": 900},
        "failed": {"vllm bf16": "it ended"},
    }
    machine = {"processor": "AMD EPYC (avx2)", "threads": 2, "torch": "2.13.0"}
    return {
        "date": "2026-11-26", "machine": machine, "prompt_tokens": 260, "new_tokens": 64, "runs": {"x86-64-v3": run}
    }  # fmt: skip


def test_pages_are_written_from_the_results_between_their_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = results()
    made["runs"]["x86-64-v4"] = made["runs"]["x86-64-v3"]
    (tmp_path / "latest.json").write_text(json.dumps(made), "utf-8")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "latest.json")
    monkeypatch.setattr(report, "CHART", tmp_path / "chart.svg")
    pages = {tmp_path / path.name: write for path, write in report.PAGES.items()}
    for path in pages:
        path.write_text("before\n<!-- bench -->\nold<!-- /bench -->\nafter\n", "utf-8")
    monkeypatch.setattr(report, "PAGES", pages)
    report.main()
    for path in pages:
        text = path.read_text("utf-8")
        assert text.startswith("before\n<!-- bench -->\n")
        assert text.endswith("<!-- /bench -->\nafter\n")
        assert "old" not in text
        assert "llama.cpp Q4_0" in text
        assert "0.80" in text, "the ratio of decoding"
    page = (tmp_path / "performance.md").read_text("utf-8")
    assert page.count("#### Kernels for `x86-64-v") == 2
    assert "20.0 tok/s, 67%" in page, "one conversation beside a busy core"
    assert "| vllm bf16 | does not run here | |" in page
    assert (tmp_path / "chart.svg").read_text("utf-8").lstrip().startswith("<?xml")


def test_where_avx2_is_the_best_there_is_the_page_says_that_one_run_is_both() -> None:
    assert "one run is both" in report.page(results())


def test_every_page_says_what_the_last_results_say() -> None:
    last = json.loads(report.RESULTS.read_text("utf-8"))
    for path, write in report.PAGES.items():
        text = path.read_text("utf-8")
        assert (found := between("bench").search(text)), path
        assert found[0] == found[1] + write(last) + found[2], f"{path}: run bench/report.py"
