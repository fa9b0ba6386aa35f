"""What Prometheus reads, parsed by its own library's parser."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from glmbot.engine.base import EngineStats, Precision, Waits
from glmbot.engine.counters import Counters
from glmbot.metrics import DialogueStats, exposition

STATS = EngineStats(
    model='m"odel\n',
    precision=Precision.INT4,
    running=3,
    waiting=2,
    queue_limit=64,
    cache_tokens_used=100,
    cache_tokens_total=1000,
    cache_tokens_kept=50,
    weight_bytes=12345,
    tokens_generated=7,
    prompt_tokens_read=8,
    prompt_tokens_reused=9,
    tokens_guessed=20,
    tokens_guessed_right=15,
    requests_finished=10,
    requests_cancelled=11,
    requests_refused=12,
    first_token=Waits((0.1, 1.0), (2, 5), 6, 9.5, 0.4),
    tokens_per_second=33.5,
    largest_batch=4,
    alive=True,
)


def read(stats: EngineStats) -> dict[str, float]:
    text = exposition(
        {"m": stats},
        DialogueStats(
            held={"telegram": 2, "telegram.second": 0}, store_up=False, open=5, dead=3, journaled=4
        ),
    ).decode("utf-8")
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model", "m") == "m"
            values[f"{sample.name}{labels or ''}"] = sample.value
    return values


def test_every_figure_is_there_under_its_name() -> None:
    values = read(STATS)
    assert values["glmbot_engine_running"] == 3
    assert values["glmbot_conversations_held"] == 2
    assert values["glmbot_bot_conversations_held{'bot': 'telegram'}"] == 2
    assert values["glmbot_bot_conversations_held{'bot': 'telegram.second'}"] == 0
    assert values["glmbot_conversations_open"] == 5
    assert values["glmbot_dead_letters"] == 3
    assert values["glmbot_journal_steps"] == 4
    assert values["glmbot_store_up"] == 0
    assert values["glmbot_engine_waiting"] == 2
    assert values["glmbot_engine_tokens_per_second"] == 33.5
    assert values["glmbot_engine_tokens_generated_total"] == 7
    assert values["glmbot_engine_prompt_tokens_reused_total"] == 9
    assert values["glmbot_engine_requests_refused_total"] == 12
    assert values["glmbot_engine_first_token_seconds_bucket{'le': '1.0'}"] == 5
    assert values["glmbot_engine_first_token_seconds_bucket{'le': '+Inf'}"] == 6
    assert values["glmbot_engine_first_token_seconds_sum"] == 9.5
    assert values["glmbot_engine_switching"] == -1


def test_a_switch_in_progress_shows_its_share() -> None:
    assert read(replace(STATS, switching=0.25))["glmbot_engine_switching"] == 0.25


def test_waits_are_counted_up_to_each_bound() -> None:
    counters = Counters(clock=lambda: 0.0)
    for wait in (0.01, 0.05, 0.2, 3.0, 500.0):
        counters.first_token(wait)
    waits = counters.waits()
    by_bound = dict(zip(waits.bounds, waits.counts, strict=True))
    assert by_bound[0.05] == 2
    assert by_bound[0.25] == 3
    assert by_bound[60.0] == 4
    assert waits.count == 5
    assert waits.median == 0.2


def test_the_expected_wait_follows_how_fast_requests_end() -> None:
    now = 0.0
    counters = Counters(clock=lambda: now)
    counters.working(True)
    for now in (0.0, 2.0, 4.0, 6.0):
        counters.finish()
    assert counters.expected_wait(4) == 10.0, "one ends every two seconds, five are ahead or it"
