"""Slack's own framework for apps, bolt, against our server of tests, over Socket Mode and with what is posted to it.

Run by tests/rig/run.py in the environment of the rig.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from aiohttp import web
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

_BUTTON = {
    "type": "actions",
    "elements": [
        {"type": "button", "action_id": "glmbot_retry", "value": "v", "text": {"type": "plain_text", "text": "Retry"}}
    ],
}  # fmt: skip


class Hearing:
    """Whatever comes, by its kind."""

    def __init__(self, app: AsyncApp) -> None:
        self._heard: dict[str, asyncio.Queue[Any]] = {}
        app.event("message")(self._hear("message", "event"))
        app.event("app_mention")(self._hear("app_mention", "event"))
        app.command("/glm")(self._hear("command", "command"))
        app.action("glmbot_retry")(self._hear("action", "action"))

    async def next(self, kind: str) -> Any:
        return await asyncio.wait_for(self._of(kind).get(), 30)

    def _of(self, kind: str) -> asyncio.Queue[Any]:
        return self._heard.setdefault(kind, asyncio.Queue())

    def _hear(self, kind: str, field: str) -> Any:
        async def event(event: Any) -> None:
            self._of(kind).put_nowait(event)

        async def command(ack: Any, command: Any) -> None:
            await ack()
            self._of(kind).put_nowait(command)

        async def action(ack: Any, action: Any) -> None:
            await ack()
            self._of(kind).put_nowait(action)

        return {"event": event, "command": command, "action": action}[field]


async def main(url: str, token: str, app_token: str, secret: str) -> None:
    client = AsyncWebClient(token, base_url=f"{url}/api/")
    app = AsyncApp(client=client, signing_secret=secret, process_before_response=True)
    hearing = Hearing(app)
    handler = AsyncSocketModeHandler(app, app_token)
    await handler.connect_async()
    want("say", text="hello")
    said = await hearing.next("message")
    note("hears a direct message", said["text"] == "hello" and said["channel_type"] == "im")
    want("mention", text="in a channel")
    mention = await hearing.next("app_mention")
    # A mention comes as both.
    await hearing.next("message")
    note("hears a mention", mention["text"].endswith("in a channel") and mention["channel"].startswith("C"))
    want("command", text="new")
    note("hears a slash command", (await hearing.next("command"))["text"] == "new")
    await messages(client, hearing, said["channel"])
    await streams(client, said, mention)
    await handler.close_async()
    await posted(app, hearing)
    print(json.dumps({"end": True}), flush=True)


async def messages(client: AsyncWebClient, hearing: Hearing, channel: str) -> None:
    sent = await client.chat_postMessage(channel=channel, text="one", blocks=[_BUTTON])
    want("press", channel=channel, ts=sent["ts"])
    note("hears a pressed button", (await hearing.next("action"))["value"] == "v")
    ts = str(sent["ts"])
    changed = await client.chat_update(channel=channel, ts=ts, text="two", blocks=[])
    note("edits", changed["text"] == "two")
    note("is refused what is too long",
         await refusal(client.chat_update(channel=channel, ts=ts, text="a" * 4001)) == "msg_too_long")  # fmt: skip
    file = await client.files_upload_v2(channel=channel, filename="a.txt", content="words")
    note("sends a file", bool(file["ok"]))
    await client.chat_delete(channel=channel, ts=ts)
    note("is refused an edit of what is gone",
         await refusal(client.chat_update(channel=channel, ts=ts, text="x")) == "message_not_found")  # fmt: skip


async def streams(client: AsyncWebClient, said: Any, mention: Any) -> None:
    """With the package's own helper."""
    where = {"channel": said["channel"], "thread_ts": said["ts"]}
    stream = await client.chat_stream(buffer_size=1, **where)
    await stream.append(markdown_text="**one** ")
    await stream.append(markdown_text="two")
    ts = str(stream.ts)
    note("is refused an edit of what streams",
         await refusal(client.chat_update(channel=said["channel"], ts=ts, text="x")) == "streaming_state_conflict")  # fmt: skip
    await stream.stop(markdown_text=" three", blocks=[_BUTTON])
    late = client.chat_appendStream(channel=said["channel"], ts=ts, markdown_text="x")
    note("is refused more after the end", await refusal(late) == "message_not_in_streaming_state")
    nobody = client.chat_startStream(channel=mention["channel"], thread_ts=mention["ts"], markdown_text="x")
    note("is asked in a channel for whom it streams", await refusal(nobody) == "missing_recipient_user_id")
    somebody = await client.chat_stream(
        buffer_size=1, channel=mention["channel"], thread_ts=mention["ts"],
        recipient_team_id=mention["team"], recipient_user_id=mention["user"],
    )  # fmt: skip
    await somebody.append(markdown_text="for you")
    await somebody.stop()
    note("streams in a channel", bool(somebody.ts))


async def posted(app: AsyncApp, hearing: Hearing) -> None:
    runner = web.AppRunner(app.web_app("/slack/events"))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    want("post", url=f"http://127.0.0.1:{port}/slack/events", text="by post")
    note("takes what is posted with its signature", (await hearing.next("message"))["text"] == "by post")
    await runner.cleanup()


async def refusal(request: Any) -> str:
    try:
        await request
    except SlackApiError as error:
        return str(error.response["error"])
    return ""


def want(what: str, **more: Any) -> None:
    print(json.dumps({"want": what, **more}), flush=True)


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": bool(ok), "why": str(why)}), flush=True)


if __name__ == "__main__":
    env = os.environ
    asyncio.run(main(env["RIG_URL"], env["RIG_TOKEN"], env["RIG_APP_TOKEN"], env["RIG_SECRET"]))
