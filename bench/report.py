"""The tables and the chart of docs/performance.md in both languages, and a sentence of the READMEs, from
bench/results/latest.json.

Called by `make bench`. What stands between the marks <!-- bench --> and <!-- /bench --> is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from figures import OURS
from marks import write_between
from matplotlib import pyplot

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "latest.json"
CHART = ROOT / "docs" / "images" / "performance.svg"
Report = dict[str, Any]

_FIGURES = ("decoding_1", "total_8", "first_token_1")
# The same in the READMEs, as parts of a sentence.
_SAID = {
    "decoding_1": "one conversation is decoded {ratio:.2f} × as fast as by {peer}",
    "total_8": "eight together {ratio:.2f} × as fast as by {peer}",
    "first_token_1": "the first token takes {ratio:.2f} × the time of {peer}",
}
_SAID_ZH = {
    "decoding_1": "单个会话的生成速度是 {peer} 的 {ratio:.2f} 倍",
    "total_8": "八个会话的总速度是 {peer} 的 {ratio:.2f} 倍",
    "first_token_1": "首字所需时间是 {peer} 的 {ratio:.2f} 倍",
}


_Words = Mapping[str, str]
_EN: _Words = {
    "decoding_1": "decoding, one conversation",
    "total_8": "eight conversations, tok/s in all",
    "first_token_1": "first token, one conversation",
    "best": "its best instruction set",
    "both": "its best instruction set, too: one run is both",
    "head": "{date}, {processor}, {threads} threads, torch {torch}. Prompts of {prompt_tokens} tokens, new to"
    " every engine, {new_tokens} new ones. Kernels for {names}; `{last}` is {native}.",
    "and": " and for ",
    "columns": "The last column but one is what a step reads of memory, weights alone, as a share of the"
    " bandwidth. The last is what remains of the speed when another process keeps one of the cores busy.",
    "chart": "Tokens a second by number of conversations",
    "kernels": "Kernels for `{name}`, {read_gb_s} GB/s of read bandwidth",
    "engines": "engine | release | instructions",
    "failed": "does not run here",
    "together": "engine | together | tok/s in all | decoding, each | first token, median (p99)"
    " | a token, median (p99) | of bandwidth | one core busy",
    "ratios": "of ours, against the best peer | quiet | one core busy",
    "turns": "engine | first turn | second turn | replay: first token (p99) | peak memory",
}
_ZH: _Words = {
    "decoding_1": "一个会话的生成",
    "total_8": "八个会话合计 tok/s",
    "first_token_1": "一个会话的首字",
    "best": "本机最好的指令集",
    "both": "本机最好的指令集，一次测量兼作两者",
    "head": "{date}，{processor}，{threads} 个线程，torch {torch}。提示 {prompt_tokens} 个 token，"
    "对每个引擎都是新的，生成 {new_tokens} 个。内核为 {names}；`{last}` 就是{native}。",
    "and": " 和 ",
    "columns": "倒数第二列是一步读取的内存（只算权重）占带宽的几成，"
    "最后一列是另一个进程占住一个核时还剩多少速度。",
    "chart": "会话数与每秒 token 数",
    "kernels": "`{name}` 内核，读带宽 {read_gb_s} GB/s",
    "engines": "引擎 | 版本 | 指令集",
    "failed": "在这里不能运行",
    "together": "引擎 | 会话数 | 合计 tok/s | 每个会话的生成 | 首字，中位数 (p99) | 每个 token，中位数 (p99)"
    " | 占带宽 | 一个核被占",
    "ratios": "我们与最快的对手之比 | 空闲 | 一个核被占",
    "turns": "引擎 | 第一轮 | 第二轮 | 回放：首字 (p99) | 内存峰值",
}


def page(report: Report) -> str:
    return _page(report, _EN)


def page_zh(report: Report) -> str:
    return _page(report, _ZH)


def _page(report: Report, words: _Words) -> str:
    names = list(report["runs"])
    head = words["head"].format(
        **report["machine"],
        date=report["date"],
        prompt_tokens=report["prompt_tokens"],
        new_tokens=report["new_tokens"],
        names=words["and"].join(f"`{name}`" for name in names),
        last=names[-1],
        native=words["best" if len(names) > 1 else "both"],
    )
    lines = [head, words["columns"], "", f"![{words['chart']}](images/performance.svg)"]
    for name, run in report["runs"].items():
        title = words["kernels"].format(name=name, read_gb_s=run["read_gb_s"])
        lines += ["", f"#### {title}", "", *_run(run, words)]
    return "\n".join(lines) + "\n"


def _table(head: str) -> list[str]:
    return [f"| {head} |", "| --- " * len(head.split(" | ")) + "|"]


def _run(run: Report, words: _Words) -> list[str]:
    lines = _table(words["engines"])
    lines += [
        f"| {name} | {about['version']} | {about['instructions']} |" for name, about in run["engines"].items()
    ]
    lines += [f"| {name} | {words['failed']} | |" for name in run["failed"]]
    lines += ["", *_table(words["together"])]
    for name, measured in run["together"].items():
        for count, one in measured.items():
            lines.append(
                f"| {name} | {count} | {_row(one, run['beside_a_busy_core'].get(name, {}).get(count))} |"
            )
    lines += ["", *_table(words["ratios"])]
    for name, figures in run["ratios"].items():
        for figure in _FIGURES:
            quiet, busy = figures.get(figure), run["ratios_beside_a_busy_core"].get(name, {}).get(figure)
            lines.append(f"| {name}, {words[figure]} | {_ratio(quiet)} | {_ratio(busy)} |")
    lines += ["", *_table(words["turns"])]
    for name, turns in run["second_turn"].items():
        replay = run["replay"][name]
        lines.append(
            f"| {name} | {turns['first_turn_s']:.3f} s | {turns['second_turn_s']:.3f} s"
            f" | {replay['first_token_s']:.2f} s ({replay['first_token_p99_s']:.2f}) | {run['peak_mb'][name]} MB |"
        )
    return lines


def _row(one: Report, busy: Report | None) -> str:
    decoding = first = gap = share = beside = "–"
    if "first_token_s" in one:
        decoding = f"{one['decode_per_stream']:.1f}"
        first = f"{one['first_token_s']:.2f} s ({one['first_token_p99_s']:.2f})"
        gap = f"{one['per_token_ms']:.1f} ms ({one['per_token_p99_ms']:.0f})"
    if "share_of_bandwidth" in one:
        share = f"{one['share_of_bandwidth']:.0%}"
    if busy is not None:
        speed = busy["tokens_per_second"]
        beside = f"{speed:.1f} tok/s, {speed / one['tokens_per_second']:.0%}"
    return f"{one['tokens_per_second']:.1f} | {decoding} | {first} | {gap} | {share} | {beside}"


def _ratio(found: Report | None) -> str:
    if found is None:
        return "–"
    return f"{found['ratio']:.2f} ({found['ours']:g} and {found['theirs']:g}, {found['peer']})"


def sentence(report: Report) -> str:
    """English, of the default precision and the instruction set that most machines have."""
    name, run, ratios = _first(report)
    said = [words.format_map(ratios[figure]) for figure, words in _SAID.items() if figure in ratios]
    machine = f"{_model(report)}, {report['machine']['threads']} cores, {name} kernels, {report['date']}"
    return (
        f"measured on {machine}, with the demo model in int4: {_listed(said, ', ', ' and ')}; the rival is"
        f" the best of {_listed(_peers(run), ', ', ' and ')}"
    )


def sentence_zh(report: Report) -> str:
    name, run, ratios = _first(report)
    said = [words.format_map(ratios[figure]) for figure, words in _SAID_ZH.items() if figure in ratios]
    machine = f"{_model(report)} 的 {report['machine']['threads']} 个核"
    return (
        f"{report['date']} 在 {machine}上用 {name} 内核实测演示模型（int4）：{'，'.join(said)}；"
        f"对手都取 {_listed(_peers(run), '、', ' 和 ')} 中最快的一个"
    )


def _first(report: Report) -> tuple[str, Report, Report]:
    """The first run's instruction set, its figures, and its ratios at the default precision."""
    name, run = next(iter(report["runs"].items()))
    return name, run, run["ratios"][f"{OURS}int4"]


def _peers(run: Report) -> list[str]:
    return [name for name in run["together"] if not name.startswith(OURS)]


def _listed(items: Sequence[str], comma: str, conjunction: str) -> str:
    return conjunction.join(part for part in (comma.join(items[:-1]), *items[-1:]) if part)


def _model(report: Report) -> str:
    return str(report["machine"]["processor"]).partition(" (")[0]


PAGES: dict[Path, Callable[[Report], str]] = {
    ROOT / "docs" / "performance.md": page,
    ROOT / "docs" / "performance.zh.md": page_zh,
    ROOT / "README.md": sentence,
    ROOT / "README.zh.md": sentence_zh,
}


def chart(report: Report) -> None:
    """Of the first run, which most machines can repeat."""
    name, run = next(iter(report["runs"].items()))
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    for engine, runs in run["together"].items():
        counts = [int(count) for count in runs]
        speeds = [one["tokens_per_second"] for one in runs.values()]
        style = "-" if engine.startswith(OURS) else "--"
        axes.plot(counts, speeds, marker="o", linestyle=style, label=engine)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 4, 8, 16], ["1", "4", "8", "16"])
    axes.set_xlabel(f"conversations together ({name})")
    axes.set_ylabel("new tokens a second, prompts included")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(CHART, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    report: Report = json.loads(RESULTS.read_text("utf-8"))
    chart(report)
    for path, write in PAGES.items():
        write_between(path, "bench", write(report))


if __name__ == "__main__":
    main()
