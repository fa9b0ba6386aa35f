"""The worst values in every field of Telegram's updates, polled and posted, beside somebody else's answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.telegram_bot import bot
from adapters.waiting import until_async
from conftest import free_port, until
from fuzz.test_telegram_updates import TEMPLATES
from glmbot.dialogue.access import Access
from glmbot.keys import UserKey
from glmbot.store.base import Store
from platforms.telegram_server import TelegramServer
from robustness.raw_http import request
from robustness.scripted import QUESTION, SAID, ScriptedEngine
from robustness.values import TEXTS, cases, sampled, some
from robustness.watch import watching

SECRET = "a-webhook-secret-of-the-tests"
_SOMEBODY_ELSE = 4711


@asynccontextmanager
async def serving(store: Store, **settings: Any) -> AsyncGenerator[TelegramServer]:
    server = TelegramServer(seconds_per_message=0.0001, burst=1000)
    await server.start()
    access = Access(admins={UserKey("telegram", "7")}, open_platforms={"telegram"})
    engine: Any = ScriptedEngine()
    async with bot(server, engine, store, settings=settings, access=access, pending_per_user=100_000):
        yield server
        await until_async(lambda: store.unfinished("telegram"), lambda left: not left)
    await server.stop()
    assert server.violations == []


def somebody_else(server: TelegramServer) -> Callable[[], Any]:
    async def answered() -> None:
        before = server.texts(_SOMEBODY_ELSE).count(SAID)
        await server.say(QUESTION, user=_SOMEBODY_ELSE)
        await until(lambda: server.texts(_SOMEBODY_ELSE).count(SAID) > before)

    return answered


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(len(TEMPLATES)))
async def test_the_worst_updates_harm_nobody_else(sqlite_store: Store, number: int) -> None:
    async with (
        serving(sqlite_store) as server,
        watching(somebody_else(server), left_out={"aiohttp.server"}) as watch,
    ):
        for case in sampled(cases(TEMPLATES[number]), 12):
            try:
                update = watch.own(case.read)
            except ValueError:
                continue
            if not isinstance(update, dict):
                continue
            with watch.trying(case):
                await server.tell(update)
                await until(lambda: server.unconfirmed == 0)
        said = [text for chat in list(server.messages) for text in server.texts(chat)]
        assert not any("Traceback" in text for text in said)


@pytest.mark.timeout(3600)
async def test_the_worst_that_is_posted_to_the_webhook_harms_nobody_else(sqlite_store: Store) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    webhook = {"webhook_url": f"{address}/hook", "webhook_port": port, "webhook_secret": SecretStr(SECRET)}
    header = "X-Telegram-Bot-Api-Secret-Token"
    async with serving(sqlite_store, **webhook) as server, watching(somebody_else(server)) as watch:
        for case in some([case for each in TEMPLATES for case in cases({"update_id": 5, **each})], 60):
            with watch.trying(case):
                answer = await request(
                    address, "POST", b"/hook", {header: SECRET.encode()}, case.text.encode()
                )
                if answer.status not in (200, 400, 413):
                    watch.blame(f"{answer.status} {answer.body[-300:]!r}")
        for name, text in TEXTS.items():
            value = (
                text[:2_000].encode("utf-8", "surrogatepass").replace(b"\n", b"\x0b").replace(b"\r", b"\x0c")
            )
            with watch.trying(f"{header} = {name}"):
                answer = await request(address, "POST", b"/hook", {header: value}, b"{}")
                if answer.status not in (400, 401):
                    watch.blame(f"{answer.status} {answer.body[-300:]!r}")
