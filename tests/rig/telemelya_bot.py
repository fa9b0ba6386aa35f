"""Our bot in webhook mode against telemelya, a Bot API server that somebody else wrote.

telemelya sends no secret with its updates, so a proxy in front of our webhook adds it, as an operator's proxy passes
Telegram's on. It knows neither setMyCommands nor edits of messages' entities; the bot must do without.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, web
from pydantic import SecretStr

from adapters.waiting import running
from conftest import GREEDY, free_port, make_dialogue
from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.keys import ConversationKey
from glmbot.store.sqlite import SqliteStore
from glmbot_telegram.adapter import TelegramAdapter, TelegramSettings
from tiny_model import write_tiny_model

__all__ = ["check_webhook"]

TOKEN = "123456789:AAtestTESTtestTESTtestTESTtestTEST0"
SECRET = "s3cret-Token"
USER = 7


async def check_webhook(url: str) -> list[tuple[str, bool, str]]:
    """What was tried, whether it held, and why not."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "tiny")
        store = SqliteStore(Path(folder) / "store.sqlite3")
        await store.open()
        engine = await LocalEngine.start(
            LocalEngineSettings(model, precision=Precision.FP32, cache_tokens=8192)
        )
        port = free_port()
        proxy, public = await _proxy(f"http://127.0.0.1:{port}/hook")
        settings = TelegramSettings(
            token=SecretStr(TOKEN), api_base_url=url, edit_interval_s=0.05, webhook_url=public,
            webhook_port=port, webhook_secret=SecretStr(SECRET),
        )  # fmt: skip
        adapter = TelegramAdapter(settings, make_dialogue(engine, store, sampling=GREEDY))
        async with ClientSession(headers={"Authorization": "Bearer none"}) as client:
            await _up(client, url)
            try:
                async with running(adapter):
                    return await _talk(client, url, store)
            finally:
                await proxy.cleanup()
                await engine.close()
                await store.close()


async def _talk(client: ClientSession, url: str, store: SqliteStore) -> list[tuple[str, bool, str]]:
    results: list[tuple[str, bool, str]] = []

    async def tell(**what: Any) -> dict[str, Any]:
        query = {"bot_token": TOKEN}
        async with client.post(
            f"{url}/api/v1/test/send_update", json={"chat_id": USER, **what}, params=query
        ) as answer:
            return await answer.json()

    async def responses() -> list[dict[str, Any]]:
        async with client.get(f"{url}/api/v1/test/responses") as answer:
            got = await answer.json()
            return got["responses"] if isinstance(got, dict) else got

    async def eventually(holds: Callable[[], Awaitable[bool]]) -> bool:
        for _ in range(300):
            if await holds():
                return True
            await asyncio.sleep(0.05)
        return False

    async def turns() -> int:
        return len(await store.last_turns(ConversationKey("telegram", str(USER)), 10))

    async def answered(number: int) -> bool:
        return await turns() == number and not await store.unfinished("telegram")

    told = await tell(text="hello")
    results.append(("an update is confirmed with 200", told["delivery"]["status_code"] == 200, str(told)))
    results.append(("it is answered", await eventually(lambda: answered(1)), ""))
    sent = [each for each in await responses() if each["method"] in ("sendMessage", "editMessageText")]
    (turn,) = await store.last_turns(ConversationKey("telegram", str(USER)), 5)
    words = [char for char in turn.answer if char.isalpha()][:10]
    shown = sent[-1]["text"] if sent else ""
    results.append(("the answer's text was delivered", all(char in shown for char in words), shown[:80]))
    results.append(("it grew by edits", any(each["method"] == "editMessageText" for each in sent), ""))
    first = next(each for each in sent if each["method"] == "sendMessage")
    await tell(callback_data=f"retry:{USER}", callback_message_id=first["message_id"])
    acknowledged = await eventually(
        lambda: _any(responses, lambda each: each["method"] == "answerCallbackQuery")
    )
    results.append(("a button is acknowledged", acknowledged, ""))
    await asyncio.sleep(0.5)
    results.append(("and answered again in place", await eventually(lambda: answered(1)), str(await turns())))
    await tell(command="/status")
    stated = await eventually(lambda: _any(responses, lambda each: "Model" in (each.get("text") or "")))
    results.append(("a command is answered", stated, ""))
    return results


async def _any(
    ask: Callable[[], Awaitable[list[dict[str, Any]]]], holds: Callable[[dict[str, Any]], bool]
) -> bool:
    return any(holds(each) for each in await ask())


async def _proxy(to: str) -> tuple[web.AppRunner, str]:
    async def pass_on(request: web.Request) -> web.Response:
        headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET, "Content-Type": "application/json"}
        async with (
            ClientSession() as client,
            client.post(to, data=await request.read(), headers=headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())

    app = web.Application()
    app.router.add_post("/hook", pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"


async def _up(client: ClientSession, url: str) -> None:
    for _ in range(300):
        try:
            async with client.get(url):
                return
        except ClientError:
            await asyncio.sleep(0.1)
    raise TimeoutError("telemelya did not start")
