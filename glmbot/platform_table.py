"""What each platform can, as a table of the documentation in both languages, made from what the adapters say.

`python -m glmbot.platform_table` writes it anew into docs/delivery.md and docs/delivery.zh.md of a clone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmbot.app import adapters
from glmbot.delivery.abilities import Ability, Profile, Unit
from glmbot.introduction import introductions

__all__ = ["PAGES", "platform_table", "with_table"]

PAGES = {"en": "delivery.md", "zh": "delivery.zh.md"}
_BEGIN, _END = "<!-- platforms: python -m glmbot.platform_table -->", "<!-- platforms end -->"
_WORDS: Mapping[Ability, tuple[str, str]] = {
    Ability.EDIT: ("an answer grows in its message", "回答在自己的消息里增长"),
    Ability.APPEND: ("an answer grows at its end alone", "回答只在末尾增长"),
    Ability.DRAFT: ("the growing answer can be a draft", "正在写的回答可以是草稿"),
    Ability.ONCE: ("a message sent again is taken once", "重复发送的消息只收一次"),
    Ability.REMOVE: ("messages can be taken back", "消息可以撤回"),
    Ability.TYPING: ("a sign that something is coming", "显示正在输入"),
    Ability.BUTTONS: ("buttons", "按钮"),
    Ability.FILE: ("files", "文件"),
    Ability.THREAD: ("a thread has a history of its own", "每个话题有自己的历史"),
    Ability.MARKDOWN: ("Markdown is shown as what it means", "Markdown 按含义显示"),
}
_SEVERAL = ("several bots in one process", "一个进程里可以有多个机器人")
_LONGEST = ("longest message", "一条消息的上限")
_UNITS = {
    Unit.CHARACTERS: ("{} characters", "{} 个字符"),
    Unit.UTF16: ("{} UTF-16 units", "{} 个 UTF-16 单元"),
}
_PACE = {
    "edit_interval_s": ("seconds between edits, unless set otherwise", "两次编辑相隔的秒数（默认）"),
    "group_edit_interval_s": ("the same in a group, where it differs", "在群里，如果不同"),
}


def platform_table(makers: Mapping[str, Any], language: str) -> str:
    """Of those that say what they can, the built-in ones first and in the order of their titles."""
    which = 0 if language == "en" else 1
    titles = {name: each.title[language] for name, each in introductions().items()}
    known = [name for name in titles if name in makers] + sorted(
        name for name in makers if name not in titles
    )
    profiles = {name: made for name in known if (made := getattr(makers[name], "profile", None)) is not None}
    heads = [titles.get(name, name) for name in profiles]
    rows = [["", *heads], ["---"] * (len(profiles) + 1)]
    rows += [[words[which], *cells] for words, cells in _rows(makers, profiles, which)]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows) + "\n"


def _rows(
    makers: Mapping[str, Any], profiles: Mapping[str, Profile], which: int
) -> Iterator[tuple[tuple[str, str], list[str]]]:
    for ability, words in _WORDS.items():
        yield words, ["✓" if ability in profile.abilities else "–" for profile in profiles.values()]
    alone = (getattr(makers[name].Settings, "alone", False) for name in profiles)
    yield _SEVERAL, ["–" if each else "✓" for each in alone]
    yield _LONGEST, [_longest(profile, which) for profile in profiles.values()]
    for key, words in _PACE.items():
        fields = [makers[name].Settings.model_fields.get(key) for name in profiles]
        yield words, ["–" if field is None else f"{field.default:g}" for field in fields]


def _longest(profile: Profile, which: int) -> str:
    return _UNITS[profile.unit][which].format(profile.longest) if profile.longest else "–"


def with_table(page: str, table: str) -> str:
    """The page with this table in the place of its own. Raises ValueError for a page without a place for it."""
    place = re.compile(f"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}", re.DOTALL)
    if len(place.findall(page)) != 1:
        raise ValueError("the page needs one place for the table of platforms")
    return place.sub(lambda _: f"{_BEGIN}\n\n{table}\n{_END}", page)


def main() -> None:
    docs = Path(__file__).parent.parent / "docs"
    for language, name in PAGES.items():
        page = docs / name
        page.write_text(with_table(page.read_text("utf-8"), platform_table(adapters(), language)), "utf-8")


if __name__ == "__main__":
    main()
