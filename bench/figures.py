"""What is made of the engines' times: medians, shares of the memory's bandwidth, ratios. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["FIGURES", "OURS", "busy_to_quiet", "put_shares", "ratios", "summary"]

OURS = "glmbot "
FIGURES = {
    "decoding_1": ("1", "decode_per_stream", True),
    "total_8": ("8", "tokens_per_second", True),
    "first_token_1": ("1", "first_token_s", False),
}
"""What is compared: how many conversations together, which figure of theirs, and whether more of it is better."""


def summary(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of one measurement."""
    totals = [
        sum(request["tokens"] for request in answer["requests"]) / answer["seconds"] for answer in answers
    ]
    made: dict[str, Any] = {"tokens_per_second": round(statistics.median(totals), 1), "rounds": len(answers)}
    requests = [
        request for answer in answers for request in answer["requests"] if request["first"] is not None
    ]
    gaps = sorted(gap for request in requests for gap in request["gaps"])
    if requests and gaps:
        made["first_token_s"] = round(statistics.median(request["first"] for request in requests), 4)
        made["first_token_p99_s"] = round(sorted(r["first"] for r in requests)[int(len(requests) * 0.99)], 4)
        made["per_token_ms"] = round(1000 * statistics.median(gaps), 2)
        made["per_token_p99_ms"] = round(1000 * gaps[int(len(gaps) * 0.99)], 2)
        decode = [
            (request["tokens"] - 1) / sum(request["gaps"]) for request in requests if request["tokens"] > 1
        ]
        made["decode_per_stream"] = round(statistics.median(decode), 1)
    return made


def put_shares(together: dict[str, Any], step_bytes: dict[str, int], read_gb_s: float) -> None:
    """Put into each measurement what its steps read of memory, weights alone, as a share of what can be read."""
    for name, size in step_bytes.items():
        for run in together.get(name, {}).values():
            # On a machine too busy to measure on tokens come in pairs, and the median between them is nothing.
            if run.get("per_token_ms"):
                run["share_of_bandwidth"] = round(size / (run["per_token_ms"] / 1000) / (read_gb_s * 1e9), 3)


def ratios(together: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each engine of ours against the best peer of this run, figure by figure.

    `ratio` is ours to theirs: more than 1 is better for speeds, less than 1 for the first token. A figure that no
    peer has, or not ours, is left out.
    """
    made: dict[str, dict[str, Any]] = {}
    for name in together:
        if not name.startswith(OURS):
            continue
        made[name] = {}
        for figure in FIGURES:
            ours = _value(together, name, figure)
            best = _best(together, (peer for peer in together if not peer.startswith(OURS)), figure)
            if ours is None or best is None:
                continue
            peer, theirs = best
            made[name][figure] = {
                "ours": ours,
                "peer": peer,
                "theirs": theirs,
                "ratio": round(ours / theirs, 3),
            }
    return made


def busy_to_quiet(quiet: dict[str, Any], busy: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of every engine, how much of its speed stays when one core is busy elsewhere: 1 is all of it."""
    made: dict[str, dict[str, float]] = {}
    for name in busy:
        for figure, (_, _, more) in FIGURES.items():
            before, after = _value(quiet, name, figure), _value(busy, name, figure)
            if before is not None and after is not None:
                share = after / before if more else before / after
                made.setdefault(name, {})[figure] = round(share, 3)
    return made


def _value(together: dict[str, Any], name: str, figure: str) -> float | None:
    count, key, _ = FIGURES[figure]
    value = together.get(name, {}).get(count, {}).get(key)
    return value or None


def _best(together: dict[str, Any], names: Iterable[str], figure: str) -> tuple[str, float] | None:
    found = [(name, value) for name in names if (value := _value(together, name, figure)) is not None]
    if not found:
        return None
    choose = max if FIGURES[figure][2] else min
    return choose(found, key=lambda one: one[1])
