"""All answers that an adapter is delivering: begin one for each accepted message, drain them at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from glmbot.delivery.background import Background
from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import Gone, Outlet, show
from glmbot.errors import StoreError
from glmbot.messages import Dialogue, Message

__all__ = ["Deliveries", "sent_before"]

_log = logging.getLogger(__name__)

_SENT = "sent"


class Deliveries:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._background = Background()

    def begin(self, message: Message, outlet: Outlet, pace: Pace, sent: Sequence[str] = ()) -> None:
        """Answer `message` in the background. Call in the order of arrival."""
        self._background.begin(self._deliver(message, outlet, pace, sent))

    async def drain(self, grace_s: float) -> None:
        """Let running answers end within `grace_s` seconds; the rest is left to the next start."""
        await self._background.drain(grace_s)

    async def _deliver(self, message: Message, outlet: Outlet, pace: Pace, sent: Sequence[str]) -> None:
        async def record(message_ids: Sequence[str]) -> None:
            try:
                await self._dialogue.mark(message, {_SENT: json.dumps(list(message_ids))})
            except StoreError as error:
                _log.warning("where the answer stands could not be recorded: %s", error)

        try:
            reply = await show(self._dialogue.respond(message), outlet, pace, sent=sent, on_sent=record)
            if reply is not None and reply.resumes:
                return
        except Gone as error:
            _log.info("%s can't be written to any more: %s", message.conversation, error)
        except Exception:
            _log.exception("the answer to %s was not delivered", message.conversation)
            return
        try:
            await self._dialogue.delivered(message)
        except StoreError as error:
            _log.warning("a delivered answer could not be recorded: %s", error)


def sent_before(marks: Mapping[str, str]) -> list[str]:
    """The message ids recorded by an earlier process."""
    return [str(message_id) for message_id in json.loads(marks.get(_SENT, "[]"))]
