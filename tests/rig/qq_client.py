"""QQ's own package for Python against our server of tests: it must hear every event and take every answer.

Run by tests/rig/run.py in an environment of its own. The package knows QQ's addresses alone, and speaks to no other.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp
import botpy

HEARD: dict[str, asyncio.Queue[Any]] = {}


class Client(botpy.Client):
    async def on_ready(self) -> None:
        HEARD["ready"].put_nowait(None)

    async def on_c2c_message_create(self, message: Any) -> None:
        HEARD["c2c"].put_nowait(message)

    async def on_group_at_message_create(self, message: Any) -> None:
        HEARD["group"].put_nowait(message)

    async def on_at_message_create(self, message: Any) -> None:
        HEARD["guild"].put_nowait(message)

    async def on_direct_message_create(self, message: Any) -> None:
        HEARD["dm"].put_nowait(message)

    async def on_interaction_create(self, interaction: Any) -> None:
        HEARD["press"].put_nowait(interaction)


async def heard(kind: str) -> Any:
    return await asyncio.wait_for(HEARD[kind].get(), 30)


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": bool(ok), "why": str(why)}), flush=True)


def want(wish: str, **more: Any) -> None:
    print(json.dumps({"want": wish, **more}), flush=True)


def turned(url: str) -> None:
    """Every request of the package's to this server, whatever host it names."""
    real = aiohttp.ClientSession._request

    async def request(self: Any, method: str, address: Any, **more: Any) -> Any:
        path = str(address).partition("://")[2].partition("/")[2]
        return await real(self, method, f"{url}/{path}", **more)

    aiohttp.ClientSession._request = request


async def main(url: str, app_id: str, secret: str) -> None:
    for kind in ("ready", "c2c", "group", "guild", "dm", "press"):
        HEARD[kind] = asyncio.Queue()
    turned(url)
    intents = botpy.Intents(
        public_messages=True, public_guild_messages=True, direct_message=True, interaction=True
    )
    client = Client(intents=intents, bot_log=None, ext_handlers=False)
    async with client:
        running = asyncio.create_task(client.start(appid=app_id, secret=secret))
        await talk(client, running)
    print(json.dumps({"end": True}), flush=True)
    # Its loop takes no end for an answer.
    os._exit(0)


async def talk(client: Any, running: Any) -> None:
    await heard("ready")
    note("logs in, and is told who it is", client.robot.name == "glm", str(client.robot))
    want("say", text="hello", scene="users")
    said = await heard("c2c")
    note("hears a private message", said.content == "hello" and bool(said.author.user_openid))
    sent = await said.reply(content="hi", msg_type=0, msg_seq=1)
    note("replies in private", bool(sent["id"]))
    try:
        await said.reply(content="hi", msg_type=0, msg_seq=1)
    except Exception as error:
        note("is refused the same number twice", True, repr(error))
    else:
        note("is refused the same number twice", False)
    note(
        "replies again under another number",
        bool((await said.reply(content="again", msg_type=0, msg_seq=2))["id"]),
    )
    want("say", text="hello all", scene="groups")
    said = await heard("group")
    note(
        "hears a mention in a group", said.content.strip() == "hello all" and bool(said.author.member_openid)
    )
    keys = {"rows": [{"buttons": [key()]}]}
    sent = await said.reply(msg_type=2, markdown={"content": "**hi**"}, keyboard={"content": keys}, msg_seq=1)
    note("replies in a group with Markdown and a button", bool(sent["id"]))
    want("press", button="retry")
    pressed = await heard("press")
    note("hears a button", pressed.data.resolved.button_data == "retry:A:ref", str(pressed))
    await client.api.on_interaction_result(pressed.id, 0)
    note("confirms a button", True)
    want("say", text="hello guild", scene="channels")
    said = await heard("guild")
    note("hears a mention in a guild", said.content.endswith("hello guild"))
    note("replies in a guild", bool((await said.reply(content="hi"))["id"]))
    want("say", text="psst", scene="dms")
    said = await heard("dm")
    note("hears a private message in a guild", said.content == "psst")
    note("replies in private in a guild", bool((await said.reply(content="hi"))["id"]))
    want("drop")
    # It waits for some seconds before it connects again.
    await asyncio.sleep(1)
    want("say", text="still there", scene="users")
    said = await heard("c2c")
    note("goes on with its session after the connection was lost", said.content == "still there")
    note("keeps listening meanwhile", not running.done())


def key() -> dict[str, Any]:
    return {
        "id": "retry",
        "render_data": {"label": "Retry", "visited_label": "Retry", "style": 1},
        "action": {"type": 1, "permission": {"type": 2}, "data": "retry:A:ref", "unsupport_tips": "/retry"},
    }


if __name__ == "__main__":
    asyncio.run(main(os.environ["RIG_URL"], os.environ["RIG_ID"], os.environ["RIG_TOKEN"]))
