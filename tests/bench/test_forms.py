"""The scripts that measure forms and tools, on a small model and a few tokens, and the tables made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.templated import TemplatedEngine
from glmbot.tools import Choice, Offer

sys.path.insert(0, str(REPOSITORY / "bench"))

import form_tables
import forms
import tool_turns
from marks import between
from tool_offers import offer


async def test_the_script_of_forms_says_what_share_of_the_speed_remains(
    tiny_model: Path,
) -> None:
    found = await forms.measure(tiny_model, [2], 1, 40)
    streams = found["streams"]["2"]
    assert list(streams) == ["free", "text", "records", "tools", "regex"]
    assert all(streams[name]["share"] > 0 for name in list(streams)[1:])


async def test_the_script_of_tools_times_turns_and_counts_calls(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_turns, "CONTEXT", 2000)
    monkeypatch.setattr(tool_turns, "offer", one_tool)
    engine = TemplatedEngine(await LocalEngine.start(LocalEngineSettings(tiny_model)))
    found = await tool_turns.measure(tool_turns.Ours(engine), 1, 2)
    await engine.close()
    assert set(found["calls"]) <= {"valid", "cut"}
    assert found["prompt_tokens"] > 100
    assert found["first_turn_s"] > 0


def one_tool(choice: Choice, edition: int = 0) -> Offer:
    return Offer(offer(choice, edition).tools[:1], choice, parallel=False)


def test_a_call_is_valid_cut_or_wrong() -> None:
    assert tool_turns.judged([("note", '{"text": "x"}')], "tool_calls") == "valid"
    assert tool_turns.judged([("note", '{"text": 1}')], "tool_calls") == "wrong"
    assert tool_turns.judged([("nothing", "{}")], "tool_calls") == "wrong"
    assert tool_turns.judged([], "stop") == "wrong"
    assert tool_turns.judged([("note", '{"te')], "length") == "cut"


SPREAD = {"median": 2.0, "p99": 9.0, "most": 20.0}
HELD = {"tokens_per_second": 390.0, "share": 0.975, "work": 0.96}
RESULTS: dict[str, dict[str, Any]] = {
    "forms": {
        "models": {
            "demo": {
                "vocabulary": 49152,
                "streams": {
                    "8": {
                        "free": {"tokens_per_second": 400.0},
                        **dict.fromkeys(("text", "records", "tools", "regex"), HELD),
                    }
                },
            }
        },
        "masks": {
            "demo": {
                "llguidance": {
                    "version": "1.9",
                    "vocabulary": 49152,
                    **dict.fromkeys(("compile_ms", "mask_us", "take_us"), SPREAD),
                    "refused": [],
                },
                "xgrammar": {"failed": "no such package"},
            }
        },
    },
    "tools": {
        "asked": 100,
        "engines": {
            "glmbot int4": {
                "prompt_tokens": 2100,
                "first_turn_s": 2.0,
                "second_turn_s": 0.1,
                "others_first_turn_s": 0.2,
                "calls": {"valid": 98, "cut": 2},
            },
            "llama.cpp Q4_0": {"failed": "it ended"},
        },
    },
}


def test_tables_are_made_of_the_results() -> None:
    english = form_tables.PAGES[REPOSITORY / "docs" / "performance.md"]
    about = {"date": "2026-11-27", "machine": {"processor": "AMD EPYC", "threads": 2}, "load": [0.5, 1.0]}
    made = {
        mark: write({**about, **RESULTS[mark]}, english) for mark, (_, write) in form_tables.PARTS.items()
    }
    assert "| 49,152 | 8 | 400.0 | 390.0 (97.5%, 96.0%) |" in made["forms"]
    assert "| 49,152 | llguidance 1.9 | 2.0 ms (20) | 2 µs (9) | 2 µs | 0 |" in made["forms"]
    assert "xgrammar | does not run here" in made["forms"]
    assert "| 2,100 tokens | 2.00 s | 0.10 s | 0.20 s | 98 of 100, 2 cut |" in made["tools"]
    assert "| llama.cpp Q4_0 | does not run here" in made["tools"]


def test_every_page_says_what_the_last_results_of_forms_and_tools_say() -> None:
    for mark in form_tables.PARTS:
        for path, words in form_tables.PAGES.items():
            found = between(mark).search(path.read_text("utf-8"))
            assert found, path
            made = found[1] + form_tables.written(mark, words) + found[2]
            assert found[0] == made, f"{path}: run bench/form_tables.py"
