"""Feishu's own package for Python against our server of tests: it must take every answer without complaint.

Run by tests/rig/run.py in the environment of the rig.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import lark_oapi as lark
import lark_oapi.ws.client as connection
from lark_oapi.api.cardkit.v1 import (
    ContentCardElementRequest,
    ContentCardElementRequestBody,
    CreateCardRequest,
    CreateCardRequestBody,
    IdConvertCardRequest,
    IdConvertCardRequestBody,
)
from lark_oapi.api.im.v1 import CreateMessageRequest, CreateMessageRequestBody, DeleteMessageRequest

CARD = {
    "schema": "2.0",
    "config": {"update_multi": True, "streaming_mode": True},
    "body": {"elements": [{"tag": "markdown", "element_id": "answer", "content": "one"}]},
}


def main(url: str, app_id: str, secret: str) -> None:
    heard: list[Any] = []
    enough = threading.Event()

    def hear(event: Any) -> None:
        heard.append(event)
        enough.set()

    handler = lark.EventDispatcherHandler.builder("", "").register_p2_im_message_receive_v1(hear).build()
    listening = lark.ws.Client(
        app_id, secret, event_handler=handler, domain=url, log_level=lark.LogLevel.ERROR
    )

    def listen() -> None:
        connection.asyncio.set_event_loop(connection.loop)
        listening.start()

    threading.Thread(target=listen, daemon=True).start()
    note("hears a message over the long connection", enough.wait(30))
    said = heard[0].event.message if heard else None
    note("reads its text, also where it came in two frames", said is not None and len(said.content) > 700)

    client: Any = lark.Client.builder().app_id(app_id).app_secret(secret).domain(url).build()
    body = CreateCardRequestBody.builder().type("card_json").data(json.dumps(CARD)).build()
    made = client.cardkit.v1.card.create(CreateCardRequest.builder().request_body(body).build())
    note("makes a card", made.success(), made.msg)
    content = json.dumps({"type": "card", "data": {"card_id": made.data.card_id}})
    whole = (
        CreateMessageRequestBody.builder()
        .receive_id("oc_private00007")
        .msg_type("interactive")
        .content(content)
    )
    request = CreateMessageRequest.builder().receive_id_type("chat_id").request_body(whole.build()).build()
    sent = client.im.v1.message.create(request)
    note("sends it", sent.success(), sent.msg)
    words = ContentCardElementRequestBody.builder().content("one two").sequence(1).build()
    target = ContentCardElementRequest.builder().card_id(made.data.card_id).element_id("answer")
    grown = client.cardkit.v1.card_element.content(target.request_body(words).build())
    note("streams words into it", grown.success(), grown.msg)
    again = client.cardkit.v1.card_element.content(target.request_body(words).build())
    note("is refused a number that does not grow", again.code == 300317, again.msg)
    asked = IdConvertCardRequestBody.builder().message_id(sent.data.message_id).build()
    found = client.cardkit.v1.card.id_convert(IdConvertCardRequest.builder().request_body(asked).build())
    note("finds the card of a message", found.success() and found.data.card_id == made.data.card_id)
    gone = client.im.v1.message.delete(
        DeleteMessageRequest.builder().message_id(sent.data.message_id).build()
    )
    note("takes the message back", gone.success(), gone.msg)


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": bool(ok), "why": str(why)}), flush=True)


if __name__ == "__main__":
    main(os.environ["RIG_URL"], os.environ["RIG_ID"], os.environ["RIG_TOKEN"])
    print(json.dumps({"end": True}), flush=True)
    os._exit(0)
