"""The tables of docs/performance.md on forms and on tools, in both languages, from bench/results/forms.json and
tool_turns.json: what stands between the marks <!-- forms --> and <!-- tools --> is written anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marks import write_between

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
Report = dict[str, Any]
_Words = Mapping[str, str]

_EN: _Words = {
    "head": "{date}, {processor}, {threads} threads, load {load}.",
    "models": "vocabulary | streams | no form, tok/s in all | a long text in JSON | records | text with 20 tools"
    " | an expression",
    "masks": "vocabulary | library | compiling a schema, median (most) | a mask, median (p99) | taking a token"
    " | refused of 12",
    "tools": "engine | prompt | first token | of the second turn | of another person | valid calls",
    "of": "{valid} of {asked}",
    "cut": ", {cut} cut",
    "failed": "does not run here",
    "tokens": "{count:,} tokens",
}
_ZH: _Words = {
    "head": "{date}，{processor}，{threads} 个线程，负载 {load}。",
    "models": "词表 | 会话数 | 不规定样子，合计 tok/s | JSON 里的长文本 | 记录 | 带 20 个工具的文字 | 正则表达式",
    "masks": "词表 | 库 | 编译一个模式，中位数（最大） | 一次掩码，中位数 (p99) | 接受一个 token | 12 个里拒绝的",
    "tools": "引擎 | 提示 | 首字 | 第二轮首字 | 另一个人的首字 | 有效的调用",
    "of": "{asked} 个里 {valid} 个",
    "cut": "，{cut} 个没写完",
    "failed": "在这里不能运行",
    "tokens": "{count:,} 个 token",
}


def _head(report: Report, words: _Words) -> str:
    load = ", ".join(f"{each:.1f}" for each in report["load"])
    return words["head"].format(**report["machine"], date=report["date"], load=load)


def _table(head: str) -> list[str]:
    return ["", f"| {head} |", "| --- " * len(head.split(" | ")) + "|"]


def forms(report: Report, words: _Words) -> str:
    lines = [_head(report, words)]
    if report["models"]:
        lines += _table(words["models"])
    for model in report["models"].values():
        for count, found in model["streams"].items():
            cells = [
                f"{found[name]['tokens_per_second']:.1f} ({found[name]['share']:.1%}, {found[name]['work']:.1%})"
                for name in ("text", "records", "tools", "regex")
            ]
            free = f"{found['free']['tokens_per_second']:.1f}"
            lines.append(" | ".join((f"| {model['vocabulary']:,}", count, free, *cells)) + " |")
    lines += _table(words["masks"])
    for libraries in report["masks"].values():
        for library, found in libraries.items():
            if "failed" in found:
                cells = ["| ", library, words["failed"], "", "", ""]
            else:
                compiling, mask = found["compile_ms"], found["mask_us"]
                cells = [
                    f"| {found['vocabulary']:,}",
                    f"{library} {found['version']}",
                    f"{compiling['median']:.1f} ms ({compiling['most']:.0f})",
                    f"{mask['median']:.0f} µs ({mask['p99']:.0f})",
                    f"{found['take_us']['median']:.0f} µs",
                    str(len(found["refused"])),
                ]
            lines.append(" | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def tools(report: Report, words: _Words) -> str:
    lines = [_head(report, words), *_table(words["tools"])]
    for name, found in report["engines"].items():
        if "failed" in found:
            lines.append(f"| {name} | {words['failed']} | | | | |")
            continue
        calls = words["of"].format(valid=found["calls"].get("valid", 0), asked=report["asked"])
        if cut := found["calls"].get("cut", 0):
            calls += words["cut"].format(cut=cut)
        times = [f"{found[key]:.2f} s" for key in ("first_turn_s", "second_turn_s", "others_first_turn_s")]
        prompt = words["tokens"].format(count=int(found["prompt_tokens"]))
        lines.append(" | ".join((f"| {name}", prompt, *times, calls)) + " |")
    return "\n".join(lines) + "\n"


PARTS: dict[str, tuple[Path, Callable[[Report, _Words], str]]] = {
    "forms": (RESULTS / "forms.json", forms),
    "tools": (RESULTS / "tool_turns.json", tools),
}
PAGES: dict[Path, _Words] = {
    ROOT / "docs" / "performance.md": _EN,
    ROOT / "docs" / "performance.zh.md": _ZH,
}


def written(mark: str, words: _Words) -> str:
    """What is to stand between the marks; nothing before there are results."""
    results, write = PARTS[mark]
    return write(json.loads(results.read_text("utf-8")), words) if results.exists() else ""


def main() -> None:
    for mark in PARTS:
        for path, words in PAGES.items():
            write_between(path, mark, written(mark, words))


if __name__ == "__main__":
    main()
