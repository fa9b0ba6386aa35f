"""DingTalk's own package for Python against our server of tests: it must take every answer without complaint.

Run by tests/rig/run.py in the environment of the rig.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import dingtalk_stream
from dingtalk_stream import card_replier, chatbot, stream, utils


class Hearing(dingtalk_stream.ChatbotHandler):
    """Answers with the package's own AI card."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    async def process(self, message: Any) -> tuple[int, str]:
        self.heard.put_nowait(dingtalk_stream.ChatbotMessage.from_dict(message.data))
        return dingtalk_stream.AckMessage.STATUS_OK, "OK"


async def main(url: str, client_id: str, secret: str) -> None:
    for module in (card_replier, chatbot, stream, utils):
        module.DINGTALK_OPENAPI_ENDPOINT = url
    dingtalk_stream.DingTalkStreamClient.OPEN_CONNECTION_API = f"{url}/v1.0/gateway/connections/open"
    dingtalk_stream.DingTalkStreamClient.get_host_ip = lambda self: "127.0.0.1"
    # It blocks the loop that it runs in, so the server is in another process.
    client = dingtalk_stream.DingTalkStreamClient(dingtalk_stream.Credential(client_id, secret))
    hearing = Hearing()
    client.register_callback_handler(dingtalk_stream.ChatbotMessage.TOPIC, hearing)
    listening = asyncio.create_task(client.start())
    said = await asyncio.wait_for(hearing.heard.get(), 30)
    note("hears a message over Stream mode", said.text.content.strip() == "hello")
    card = dingtalk_stream.AIMarkdownCardInstance(client, said)
    await asyncio.to_thread(grow, card)
    note("keeps listening meanwhile", not listening.done())
    print(json.dumps({"end": True}), flush=True)
    # Its loop takes no end for an answer.
    os._exit(0)


def grow(card: Any) -> None:
    """It only logs what is refused, and gives no id for a card that was not made."""
    card.ai_start()
    note("makes an AI card", bool(card.card_instance_id))
    card.ai_streaming("one")
    card.ai_streaming(" two", append=True)
    card.ai_finish(markdown="one two three")


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": bool(ok), "why": str(why)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(os.environ["RIG_URL"], os.environ["RIG_ID"], os.environ["RIG_TOKEN"]))
