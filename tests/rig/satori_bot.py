"""Our bot behind satori-python, which is connected to the OneBot server of our tests: both ends are ours, and what
is between them is not. People say something on QQ, it comes to us as Satori's events, and the answer goes back.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from adapters.scripted import ScriptedEngine
from adapters.waiting import running
from conftest import free_port, make_dialogue
from glmbot.dialogue.access import Access
from glmbot.errors import AdapterError
from glmbot.store.sqlite import SqliteStore
from glmbot_satori.adapter import SatoriAdapter, SatoriSettings
from platforms.onebot_server import SELF, OneBotServer
from platforms.onebot_server import TOKEN as ONEBOT_TOKEN

__all__ = ["check_satori"]

TOKEN = "satori-token"
GROUP = 5


async def check_satori(python: Path) -> list[tuple[str, bool, str]]:
    """What was tried, whether it held, and why not."""
    qq = OneBotServer(only_arrays=False)
    await qq.start()
    port = free_port()
    environment = {
        **os.environ,
        "RIG_PORT": str(port),
        "RIG_TOKEN": TOKEN,
        "RIG_ONEBOT": qq.url,
        "RIG_ONEBOT_TOKEN": ONEBOT_TOKEN,
    }
    script = str(Path(__file__).with_name("satori_peer.py"))
    server = subprocess.Popen(  # noqa: ASYNC220
        [str(python), script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = SqliteStore(Path(folder) / "store.sqlite3")
            await store.open()
            try:
                return await _talk(qq, port, store)
            finally:
                await store.close()
    finally:
        server.terminate()
        server.wait()
        await qq.stop()


async def _talk(qq: OneBotServer, port: int, store: SqliteStore) -> list[tuple[str, bool, str]]:
    results: list[tuple[str, bool, str]] = []
    settings = SatoriSettings(
        token=SecretStr(TOKEN), url=f"http://127.0.0.1:{port}/satori", language="en", edit_interval_s=0.05
    )
    results.append(("its server is up and its OneBot adapter is logged in", await _up(settings), ""))
    engine = ScriptedEngine(lambda prompt: "to: " + f"\n{prompt}".rpartition("\nQ:")[2].removesuffix("\nA:"))
    access = Access(open_platforms={"satori"})
    adapter = SatoriAdapter(settings, make_dialogue(engine, store, access=access))

    async def answered(chat: str, words: str) -> bool:
        return await _eventually(lambda: any(words in text for text in qq.texts(chat)))

    async with running(adapter):
        words = "5 < 6 & [CQ:at,qq=all] <img src='x'/>"
        await qq.say(words)
        results.append(
            ("words come and go as they are", await answered("7", f"to: {words}"), str(qq.texts("7")))
        )
        await qq.say("to nobody", group=GROUP)
        await qq.say("to all", group=GROUP, at=["all"])
        await qq.say("mentioned", group=GROUP, at=[SELF])
        group = await answered(f"g{GROUP}", "to: mentioned")
        results.append(("a mention in a group is answered", group, str(qq.texts(f"g{GROUP}"))))
        results.append(("and nobody else", len(qq.texts(f"g{GROUP}")) == 1, str(qq.texts(f"g{GROUP}"))))
        quoted = any(part["type"] == "reply" for parts in qq.messages[f"g{GROUP}"].values() for part in parts)
        results.append(("the answer quotes the question", quoted, ""))
        asked = await qq.say("forget it")
        await answered("7", "to: forget it")
        await qq.recall(asked)
        gone = await _eventually(lambda: not any("forget it" in text for text in qq.texts("7")))
        results.append(("a recalled question takes its answer along", gone, str(qq.texts("7"))))
        await qq.say("/help")
        results.append(("a command is answered", await answered("7", "/new"), ""))
    results.append(("no law of OneBot's was broken", qq.violations == [], str(qq.violations)))
    return results


async def _up(settings: SatoriSettings) -> bool:
    for _ in range(300):
        try:
            if "qq-client" in await SatoriAdapter.identify(settings):
                return True
        except AdapterError:
            pass
        await asyncio.sleep(0.2)
    return False


async def _eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(400):
        if holds():
            return True
        await asyncio.sleep(0.05)
    return False
