"""The documentation builds as a site in both languages, without a broken link or a missing picture."""

from __future__ import annotations

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


def test_every_page_is_there_in_both_languages() -> None:
    translated = ("index", "telegram", "discord", "web", "operator", "delivery", "comparison")
    for name in translated:
        english = (REPOSITORY / "docs" / f"{name}.md").read_text("utf-8")
        chinese = (REPOSITORY / "docs" / f"{name}.zh.md").read_text("utf-8")
        # The same headings and the same blocks of code: neither language falls behind.
        assert english.count("\n## ") - chinese.count("\n## ") in (0, 1)
        assert english.count("```") == chinese.count("```")
