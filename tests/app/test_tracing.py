"""Traces: a whole bot sends them to a collector by OTLP/HTTP, and they hold nothing that anybody said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from conftest import until
from platforms.telegram_server import TOKEN, TelegramServer
from program import running


class Collector:
    """https://opentelemetry.io/docs/specs/otlp/#otlphttp"""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.received = b""

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        self.received += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncGenerator[tuple[Collector, str]]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    await runner.cleanup()


async def run_bot(folder: Path, model: Path, telegram: TelegramServer, endpoint: str) -> tuple[int, str]:
    """One question through a whole bot, which is then stopped. Returns its exit code and its log."""
    config = folder / "config.toml"
    config.write_text(
        f"[telegram]\napi_base_url = '{telegram.url}'\n[access]\nopen_platforms = ['telegram']\n"
        f"[model]\npath = '{model}'\nprecision = 'fp32'\nmax_answer_tokens = 20\n"
        f"[store]\npath = '{folder}/store.sqlite3'\n[tracing]\nendpoint = '{endpoint}'\n"
    )
    token = {"GLMBOT_TELEGRAM__TOKEN": TOKEN}
    with running("run", "--config", str(config), cwd=folder, **token) as bot:
        await telegram.say("a very private question", user=7)
        try:
            await until(lambda: any("reached its limit" in text for text in telegram.texts(7)), 90)
        except AssertionError as error:
            bot.kill()
            raise AssertionError(bot.communicate()[1]) from error
        bot.terminate()
        _, log = await asyncio.to_thread(bot.communicate)
        return bot.wait(), log


async def test_a_question_is_traced_from_its_arrival_to_its_last_word(
    tmp_path: Path, tiny_model: Path, collector: tuple[Collector, str]
) -> None:
    telegram = TelegramServer(seconds_per_message=0.01, burst=8)
    await telegram.start()
    seen, endpoint = collector
    code, log = await run_bot(tmp_path, tiny_model, telegram, endpoint)
    assert (code, "Traceback" in log) == (0, False)
    spans = {span.name: span for span in seen.spans}
    assert len(spans) == len(seen.spans) == 6
    for child, parent in (
        ("respond", "deliver"), ("wait", "respond"), ("history", "respond"), ("prompt", "respond"), ("chat", "respond"),
    ):  # fmt: skip
        assert spans[child].parent_span_id == spans[parent].span_id
        assert spans[child].trace_id == spans[parent].trace_id
    told = {each.key: each.value for each in spans["chat"].attributes}
    assert told["gen_ai.usage.output_tokens"].int_value == 20
    assert told["gen_ai.request.model"].string_value == "tiny"
    assert spans["chat"].end_time_unix_nano > spans["chat"].start_time_unix_nano
    assert b"private" not in seen.received
    assert not any(text.encode() in seen.received for text in telegram.texts(7))
    await telegram.stop()


async def test_a_collector_that_is_away_disturbs_nobody(tmp_path: Path, tiny_model: Path) -> None:
    telegram = TelegramServer(seconds_per_message=0.01, burst=8)
    await telegram.start()
    code, log = await run_bot(tmp_path, tiny_model, telegram, "http://127.0.0.1:9/v1/traces")
    assert code == 0
    assert "Traceback" not in log
    assert log.count("traces can't be sent") == 1
    assert "opentelemetry" not in log
    await telegram.stop()
