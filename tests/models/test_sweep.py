"""The sweep over architectures (`make models`): its verdicts, and the pages that it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import REPOSITORY
from sweep.one import VERDICTS, Verdict, examine
from sweep.page import write_pages
from sweep.run import bounded


def test_verdicts_are_made_by_comparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine("qwen2", tmp_path / "right") == Verdict("qwen2", "equal", "program")
    assert examine("falcon", tmp_path / "refused").verdict == "refused"
    assert examine("t5", tmp_path / "none").verdict == "unmade"
    monkeypatch.setattr("sweep.one.by_the_engine", lambda _, asked, new, **__: [[7] * new for _ in asked])
    wrong = examine("qwen2", tmp_path / "wrong")
    assert wrong.verdict == "wrong"
    assert "below the best" in wrong.words


def test_a_process_that_ends_or_takes_too_long_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.run.examine", lambda *_: __import__("os")._exit(3))
    assert bounded("qwen2") == Verdict("qwen2", "crashed", words="ended with status 3")
    monkeypatch.setattr("sweep.run.examine", lambda *_: __import__("time").sleep(60))
    monkeypatch.setattr("sweep.run._TIME_S", 0.2)
    assert bounded("qwen2").words == "took more than 0 s"


def test_pages_have_a_row_for_each_in_both_languages(tmp_path: Path) -> None:
    made = [
        Verdict("llama", "equal", "program"),
        Verdict("gpt2", "equal", "torch"),
        Verdict("falcon", "refused", words="FalconForCausalLM brings its own attention, which"),
        Verdict("x", "wrong", "torch", "alone"),
    ]
    write_pages(tmp_path, made, "5.0")
    english, chinese = ((tmp_path / f"architectures{end}").read_text("utf-8") for end in (".md", ".zh.md"))
    assert "| `falcon` | refused | attention that can't be replaced |" in english
    assert "| `falcon` | 拒绝 | 注意力不能替换 |" in chinese
    assert "| `x` | **wrong** |" in english
    assert "equal 2, refused 1, **wrong** 1" in english
    assert english.count("\n| `") == chinese.count("\n| `") == 5, "and one of headings"


@pytest.mark.parametrize("end", [".md", ".zh.md"])
def test_the_documented_sweep_has_nothing_wrong(end: str) -> None:
    text = (REPOSITORY / "docs" / f"architectures{end}").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \| (.+) \| (.*) \|$", text, re.M)
    assert len(rows) > 150
    assert [kind for kind, _, _ in rows] == sorted({kind for kind, _, _ in rows})
    assert not any("**" in verdict for _, verdict, _ in rows)
    assert len(VERDICTS) == 5
