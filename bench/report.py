"""The table and the chart of docs/performance.md, from bench/results/latest.json. Called by `make bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "images" / "performance.svg"
_MARKS = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)


def table(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"{report['date']}, {machine['processor']}, {machine['threads']} threads, torch {machine['torch']};"
        f" {machine['read_gb_s']} GB/s of read bandwidth. Prompts of {report['prompt_tokens']} tokens, new to"
        f" every engine, and {report['new_tokens']} new tokens.",
        "The last column is what a step reads of memory, weights alone, as a share of that.",
        "",
        "![Tokens a second by number of conversations](images/performance.svg)",
        "",
        "| engine | together | tok/s in all | first token, median (p99) | a token, median (p99) | of bandwidth |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in report["together"].items():
        for count, run in runs.items():
            first = gap = share = "–"
            if "first_token_s" in run:
                first = f"{run['first_token_s']:.2f} s ({run['first_token_p99_s']:.2f})"
                gap = f"{run['per_token_ms']:.1f} ms ({run['per_token_p99_ms']:.0f})"
            if "share_of_bandwidth" in run:
                share = f"{run['share_of_bandwidth']:.0%}"
            lines.append(f"| {name} | {count} | {run['tokens_per_second']:.1f} | {first} | {gap} | {share} |")
    lines += ["", "| ratio of this run | |", "| --- | --- |"]
    lines += [f"| `{name}` | {value} |" for name, value in report["ratios"].items()]
    lines += [
        "",
        "| engine | first turn | second turn | replay: first token (p99) | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, turns in report["second_turn"].items():
        replay = report["replay"][name]
        lines.append(
            f"| {name} | {turns['first_turn_s']:.3f} s | {turns['second_turn_s']:.3f} s"
            f" | {replay['first_token_s']:.2f} s ({replay['first_token_p99_s']:.2f})"
            f" | {report['peak_mb'][name]} MB |"
        )
    lines += [f"| {name} | does not run here | | | |" for name in report["failed"]]
    return "\n".join(lines) + "\n"


def chart(report: dict[str, Any]) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    for name, runs in report["together"].items():
        counts = [int(count) for count in runs]
        speeds = [run["tokens_per_second"] for run in runs.values()]
        axes.plot(
            counts, speeds, marker="o", linestyle="-" if name.startswith("glmbot") else "--", label=name
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 4, 8, 16, 32], ["1", "4", "8", "16", "32"])
    axes.set_xlabel("conversations together")
    axes.set_ylabel("new tokens a second, prompts included")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(CHART, metadata={"Date": None})


def main() -> None:
    report = json.loads(RESULTS.read_text("utf-8"))
    chart(report)
    page = PAGE.read_text("utf-8")
    if not _MARKS.search(page):
        raise SystemExit(f"{PAGE} has no <!-- bench --> marks to write between")
    made = table(report)
    PAGE.write_text(_MARKS.sub(lambda marks: marks[1] + made + marks[2], page), "utf-8")


if __name__ == "__main__":
    main()
