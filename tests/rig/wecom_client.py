"""Two packages for WeCom's smart bots against our server of tests: that of WeCom's own team, and the one that knows
files, too. They must take every answer without complaint. Run by tests/rig/run.py in the environment of the rig.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aibot
import aibot.ws
import wecom_aibot_sdk


class Silent:
    """Both write logs where checks go."""

    def debug(self, *_: Any) -> None: ...

    info = warn = warning = error = debug


async def official(url: str, bot: str, secret: str) -> None:
    options = aibot.WSClientOptions(
        bot_id=bot, secret=secret, ws_url=url, heartbeat_interval=200, logger=Silent()
    )
    # It wants TLS even where the address has none.
    aibot.ws._SSL_CONTEXT = None
    client = aibot.WSClient(options)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client.on("message.text", heard.put_nowait)
    client.on("event.enter_chat", heard.put_nowait)
    client.on("error", lambda error: note("has nothing to complain of", False, repr(error)))
    await client.connect()
    frame = await asyncio.wait_for(heard.get(), 30)
    note("hears a message over the long connection", frame["body"]["text"]["content"] == "hello")
    for words, end in (("one", False), ("one two", False), ("one two three", True)):
        answer = await client.reply_stream(frame, "stream-1", words, end)
        note(f"streams {words!r}", answer["errcode"] == 0)
    note(
        "is refused more after the end", await refusal(client.reply_stream(frame, "stream-1", "x")) == 846608
    )
    long = client.reply_stream(frame, "stream-2", "长" * 6827, True)
    note("is refused what is too long", await refusal(long) == 45002)
    unknown = client.reply_stream({"headers": {"req_id": "another"}}, "stream-3", "x", True)
    note("is refused a question that nobody asked", await refusal(unknown) == 846605)
    message = {"msgtype": "markdown", "markdown": {"content": "**pushed**"}}
    sent = await client.send_message(frame["body"]["from"]["userid"], message)
    note("sends a message that answers nothing", sent["errcode"] == 0)
    want("enter")
    event = await asyncio.wait_for(heard.get(), 30)
    welcome = await client.reply_welcome(event, {"msgtype": "text", "text": {"content": "welcome"}})
    note("welcomes who comes in", welcome["errcode"] == 0)
    await asyncio.sleep(0.7)
    note("says that it is there, and stays connected", client.is_connected)
    client.disconnect()


async def with_files(url: str, bot: str, secret: str) -> None:
    client = wecom_aibot_sdk.WSClient(bot, secret, ws_url=url, logger=Silent())
    heard: asyncio.Queue[Any] = asyncio.Queue()
    displaced = asyncio.Event()
    client.on("message.text", heard.put_nowait)
    client.on("event.disconnected_event", lambda _: displaced.set())
    await client.connect()
    want("say")
    frame = await asyncio.wait_for(heard.get(), 30)
    who = frame["body"]["from"]["userid"]
    note("the other package hears a message", frame["body"]["text"]["content"] == "again")
    uploaded = await client.upload_media(b"x" * 1_200_000, type="file", filename="答案.txt")
    note("it uploads a file in parts", bool(uploaded["media_id"]))
    sent = await client.send_media_message(who, "file", uploaded["media_id"])
    note("it sends the file", sent["errcode"] == 0)
    other = wecom_aibot_sdk.WSClient(bot, secret, ws_url=url, logger=Silent())
    await other.connect()
    await asyncio.wait_for(displaced.wait(), 30)
    note("it is told that another has taken over", True)
    await other.disconnect()
    await client.disconnect()


async def refusal(request: Any) -> int:
    """The code; both tell it in an error's words or a frame."""
    try:
        return int((await request)["errcode"])
    except Exception as error:
        return next((code for code in (846608, 846605, 45002) if str(code) in repr(error)), -1)


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": bool(ok), "why": str(why)}), flush=True)


def want(what: str) -> None:
    print(json.dumps({"want": what}), flush=True)


async def main() -> None:
    known = os.environ["RIG_URL"], os.environ["RIG_ID"], os.environ["RIG_TOKEN"]
    await official(*known)
    await with_files(*known)


if __name__ == "__main__":
    asyncio.run(main())
    print(json.dumps({"end": True}), flush=True)
    os._exit(0)
