"""The table of cards in docs/performance.md, in both languages, from what `bench/gpu.py --out FILE` wrote.

    python bench/gpu_page.py FILE...     one table for each file; a part that a file lacks is taken from the next

What stands between the marks <!-- gpu --> and <!-- /gpu --> is written anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marks import write_between

__all__ = ["joined", "page"]

ROOT = Path(__file__).parent.parent
_Words = Mapping[str, str]
_EN: _Words = {
    "head": "{card}, driver {driver}, torch {torch}, copies on the card at {copy_gb_s:.0f} GB/s.",
    "columns": "weights | people and their tokens | a step | of the copy's speed | its graph alone | of the copy's"
    " speed | tokens/s in all | by torch's modules | Transformers' generate",
    "prompts": "Reading prompts, tokens/s: {all}.",
    "prompt": "{tokens} tokens at {precision} {fast:.0f} (by torch's modules {plain:.0f})",
    "memory": "Memory of the card at most, loading and answering, with 2048 tokens of cache: {all}.",
    "one": "{precision} {gb:.1f} GB",
    "switches": "{count} switches under load, each in {least:.1f} to {most:.1f} s.",
    "checks": "Kernels against the exact result, in {dtype}: {far}.",
    "well": "{count} kinds of operation, the worst {worst:.1e} of the result away",
}
_ZH: _Words = {
    "head": "{card}，驱动 {driver}，torch {torch}，卡内复制 {copy_gb_s:.0f} GB/s。",
    "columns": "权重 | 人数和每人的 token | 一步 | 占复制速度 | 只算 CUDA 图 | 占复制速度 | 合计 token/s | 只用"
    " torch 的模块 | Transformers 的 generate",
    "prompts": "读提示，token/s：{all}。",
    "prompt": "{precision} {tokens} 个 token {fast:.0f}（只用 torch 的模块 {plain:.0f}）",
    "memory": "加载和回答时的显存峰值，缓存 2048 个 token：{all}。",
    "one": "{precision} {gb:.1f} GB",
    "switches": "负载下切换精度 {count} 次，每次 {least:.1f} 到 {most:.1f} 秒。",
    "checks": "内核与精确结果比较，{dtype}：{far}。",
    "well": "{count} 种操作，最差相差结果的 {worst:.1e}",
}


def joined(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one card: each part from the first that has it."""
    made: dict[str, Any] = {}
    for report in reports:
        for part, found in report.items():
            if part not in made or (isinstance(made[part], dict) and "failed" in made[part]):
                made[part] = found
    return made


def page(report: dict[str, Any], words: _Words) -> str:
    peers = report.get("peers", {}).get("transformers", {})
    lines = [words["head"].format(**report["machine"]), "", f"| {words['columns']} |"]
    lines.append("| --- " * len(words["columns"].split(" | ")) + "|")
    first = next(iter(report["speed"]))
    for precision, at in report["speed"].items():
        for one in at["decoding"]:
            if "step_ms" in one:
                known = peers if precision == first else {}
                lines.append(_row(precision, one, known.get(f"{one['people']} with {one['tokens']}", {})))
    between = "，" if words is _ZH else ", "
    read = [
        words["prompt"].format(
            precision=precision, tokens=tokens, fast=one["tokens_per_s"], plain=one["plain_tokens_per_s"]
        )
        for precision, at in report["speed"].items()
        for tokens, one in at["prompts"].items()
        if "tokens_per_s" in one
    ]
    lines += ["", words["prompts"].format(all=between.join(read))] if read else []
    held = [
        words["one"].format(precision=precision, gb=at["memory"]["peak_reserved_gb"])
        for precision, at in report["speed"].items()
        if "peak_reserved_gb" in at["memory"]
    ]
    lines += [words["memory"].format(all=between.join(held))] if held else []
    if each := report.get("switches", {}).get("each"):
        seconds = [one["seconds"] for one in each]
        lines.append(words["switches"].format(count=len(each), least=min(seconds), most=max(seconds)))
    for check in report.get("checks", ()):
        if "relative_error" in check:
            errors = check["relative_error"].values()
            far = words["well"].format(count=len(errors), worst=max(errors))
            told = f"{check['failed']}" if check["failed"] else far
            lines.append(words["checks"].format(dtype=check["dtype"], far=told))
    return "\n".join(lines) + "\n"


def _row(precision: str, one: dict[str, Any], peer: dict[str, Any]) -> str:
    def ms(found: float | None) -> str:
        return "–" if found is None else f"{found:.2f} ms"

    def percent(found: float | None) -> str:
        return "–" if found is None else f"{found:.0%}"

    cells = (
        precision, f"{one['people']} · {one['tokens']}", ms(one["step_ms"]), percent(one["of_copy"]),
        ms(one.get("graph_ms")), percent(one.get("graph_of_copy")), f"{one['tokens_per_s']:.0f}",
        ms(one.get("plain_step_ms")), ms(peer.get("step_ms")),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    reports = [json.loads(Path(name).read_text("utf-8")) for name in sys.argv[1:]]
    cards = dict.fromkeys(report["machine"]["card"] for report in reports)
    of = [joined([each for each in reports if each["machine"]["card"] == card]) for card in cards]
    for name, words in (("performance.md", _EN), ("performance.zh.md", _ZH)):
        write_between(ROOT / "docs" / name, "gpu", "\n".join(page(each, words) for each in of))


if __name__ == "__main__":
    main()
