"""What the engine and the dialogue count, in Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from glmbot.engine.base import EngineStats

__all__ = ["DialogueStats", "exposition"]


@dataclass(frozen=True, slots=True)
class DialogueStats:
    """`held`: conversations that this process answers, by the name of each bot. The rest is of the store, some
    seconds ago: whether it answers, conversations with a message to be answered by any process, dead letters,
    steps in the journal."""

    held: Mapping[str, int] = field(default_factory=dict[str, int])
    store_up: bool = True
    open: int = 0
    dead: int = 0
    journaled: int = 0


_Read = Callable[[EngineStats], float]
_OF_THE_DIALOGUE: Mapping[str, tuple[str, Callable[[DialogueStats], float]]] = {
    "conversations_held": ("conversations that this process answers", lambda stats: sum(stats.held.values())),
    "conversations_open": ("conversations with a message to be answered", lambda stats: stats.open),
    "dead_letters": ("messages that were set aside", lambda stats: stats.dead),
    "journal_steps": ("steps that wait for the store", lambda stats: stats.journaled),
    "store_up": ("1 while the store answers", lambda stats: float(stats.store_up)),
}

_GAUGES: Mapping[str, tuple[str, _Read]] = {
    "running": ("requests being answered", lambda stats: stats.running),
    "waiting": ("requests in the queue", lambda stats: stats.waiting),
    "queue_limit": ("requests that may wait", lambda stats: stats.queue_limit),
    "cache_tokens_used": ("KV cache entries of running requests", lambda stats: stats.cache_tokens_used),
    "cache_tokens_kept": (
        "KV cache entries of ended requests, kept for prompts that begin alike",
        lambda stats: stats.cache_tokens_kept,
    ),
    "cache_tokens": ("KV cache entries in all", lambda stats: stats.cache_tokens_total),
    "weight_bytes": ("bytes of weights in memory", lambda stats: stats.weight_bytes),
    "tokens_per_second": ("new tokens a second, lately", lambda stats: stats.tokens_per_second),
    "alive": ("1 while the model thread runs", lambda stats: int(stats.alive)),
    "largest_batch": ("most requests in one step since the start", lambda stats: stats.largest_batch),
    "switching": (
        "share done of a precision switch, or -1",
        lambda stats: -1 if stats.switching is None else stats.switching,
    ),
}
_COUNTERS: Mapping[str, tuple[str, _Read]] = {
    "tokens_generated": ("new tokens", lambda stats: stats.tokens_generated),
    "prompt_tokens_read": ("prompt tokens computed", lambda stats: stats.prompt_tokens_read),
    "prompt_tokens_reused": (
        "prompt tokens taken from what others had computed",
        lambda stats: stats.prompt_tokens_reused,
    ),
    "tokens_guessed": ("tokens computed ahead", lambda stats: stats.tokens_guessed),
    "tokens_guessed_right": ("of those, the ones drawn in the end", lambda stats: stats.tokens_guessed_right),
    "requests_finished": ("requests answered to their end", lambda stats: stats.requests_finished),
    "requests_refused": ("requests turned away by a full queue", lambda stats: stats.requests_refused),
    "requests_cancelled": ("requests given up", lambda stats: stats.requests_cancelled),
}


def exposition(stats: Mapping[str, EngineStats], dialogue: DialogueStats) -> bytes:
    """The whole answer to a scrape. It names no user and holds no text of anybody's.

    stats: of each model that is loaded, by its name, which is their label `model`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_EngineCollector(stats))
    registry.register(_DialogueCollector(dialogue))
    return generate_latest(registry)


class _DialogueCollector(Collector):
    def __init__(self, stats: DialogueStats) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        for name, (words, value) in _OF_THE_DIALOGUE.items():
            yield GaugeMetricFamily(f"glmbot_{name}", words, value=value(self._stats))
        words = "conversations that this process answers, of each bot"
        held = GaugeMetricFamily("glmbot_bot_conversations_held", words, labels=["bot"])
        for bot, count in self._stats.held.items():
            held.add_metric([bot], count)
        yield held


class _EngineCollector(Collector):
    def __init__(self, stats: Mapping[str, EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        info = InfoMetricFamily("glmbot_engine", "what runs", labels=["model"])
        for model, stats in self._stats.items():
            info.add_metric([model], {"precision": stats.precision})
        yield info
        for name, (words, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"glmbot_engine_{name}", words, labels=["model"])
            for model, stats in self._stats.items():
                gauge.add_metric([model], value(stats))
            yield gauge
        for name, (words, value) in _COUNTERS.items():
            counter = CounterMetricFamily(f"glmbot_engine_{name}", words, labels=["model"])
            for model, stats in self._stats.items():
                counter.add_metric([model], value(stats))
            yield counter
        up = GaugeMetricFamily(
            "glmbot_engine_server_up", "1 while it is being asked", labels=["model", "server"]
        )
        for model, stats in self._stats.items():
            for label, works in stats.servers:
                up.add_metric([model, label], float(works))
        if up.samples:
            yield up
        yield self._waits()

    def _waits(self) -> Metric:
        family = HistogramMetricFamily(
            "glmbot_engine_first_token_seconds", "seconds from a request to its first token", labels=["model"]
        )
        for model, stats in self._stats.items():
            waits = stats.first_token
            buckets = [
                (str(bound), float(count)) for bound, count in zip(waits.bounds, waits.counts, strict=True)
            ]
            family.add_metric([model], [*buckets, ("+Inf", float(waits.count))], waits.total)
        return family
