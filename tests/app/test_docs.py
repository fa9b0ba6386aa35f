"""The documentation builds as a site in both languages, without a broken link or a missing picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY


def test_the_site_builds_in_both_languages(tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "zh/index.html", "operator/index.html", "zh/operator/index.html"):
        assert (tmp_path / page).is_file()
    assert "开始" in (tmp_path / "zh/index.html").read_text("utf-8")
    for picture in ("page", "dark", "phone", "operator", "terminal"):
        assert (tmp_path / "images" / f"{picture}.png").stat().st_size > 10_000


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "security.md").read_text("utf-8")))
    tests = "\n".join(file.read_text("utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert sorted(name for name in named if f"def {name}(" not in tests) == []


def test_every_page_is_there_in_both_languages() -> None:
    translated = ("index", "telegram", "discord", "web", "operator", "delivery", "comparison", "reliability")
    for name in translated:
        english = (REPOSITORY / "docs" / f"{name}.md").read_text("utf-8")
        chinese = (REPOSITORY / "docs" / f"{name}.zh.md").read_text("utf-8")
        # The same headings and the same blocks of code: neither language falls behind.
        assert english.count("\n## ") - chinese.count("\n## ") in (0, 1)
        assert english.count("```") == chinese.count("```")
