"""The scripts that measure forms and tools, on a small model and a few tokens, and the tables made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.templated import TemplatedEngine

sys.path.insert(0, str(REPOSITORY / "bench"))

import forms
import tool_turns


async def test_the_script_of_forms_says_what_share_of_the_speed_remains(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "TOKENS", 40)
    found = await forms.measure(tiny_model, [2], 1)
    streams = found["streams"]["2"]
    assert list(streams) == ["free", "text", "records", "tools", "regex"]
    assert all(streams[name]["share"] > 0 for name in list(streams)[1:])


async def test_the_script_of_tools_times_turns_and_counts_calls(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_turns, "CONTEXT", 2000)
    monkeypatch.setattr(tool_turns, "offer", lambda choice: forms_offer(choice, 1))
    engine = TemplatedEngine(await LocalEngine.start(LocalEngineSettings(tiny_model)))
    found = await tool_turns.measure(tool_turns.Ours(engine), 1, 2)
    await engine.close()
    assert set(found["calls"]) <= {"valid", "cut"}
    assert found["prompt_tokens"] > 100
    assert found["first_turn_s"] > 0


def forms_offer(choice: Any, most: int) -> Any:
    whole = forms.offer(choice)
    return type(whole)(whole.tools[:most], choice, parallel=False)


def test_a_call_is_valid_cut_or_wrong() -> None:
    assert tool_turns.judged([("note", '{"text": "x"}')], "tool_calls") == "valid"
    assert tool_turns.judged([("note", '{"text": 1}')], "tool_calls") == "wrong"
    assert tool_turns.judged([("nothing", "{}")], "tool_calls") == "wrong"
    assert tool_turns.judged([], "stop") == "wrong"
    assert tool_turns.judged([("note", '{"te')], "length") == "cut"
