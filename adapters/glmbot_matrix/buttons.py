"""Reactions as buttons: the bot puts them under an answer, and whoever adds the same one presses it.

https://spec.matrix.org/v1.15/client-server-api/#event-annotations-and-reactions: a reaction of one person with
one key stands there once; it goes by a redaction of its event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from nio import Event, MegolmEvent

from glmbot.background import Background
from glmbot.delivery.outlet import Flooded, NotWritten, Unreachable
from glmbot.delivery.paces import Paces
from glmbot.delivery.recent import Recent
from glmbot.http.fields import Fields, fields_of, objects_in
from glmbot.messages import Action
from glmbot_matrix.client import MatrixClient, in_path
from glmbot_matrix.normalize import BUTTONS
from glmbot_matrix.refusals import Duplicate, ask

__all__ = ["Buttons", "Under", "keys_for", "legend_of", "plain_key"]

_log = logging.getLogger(__name__)

_KEYS = {"stop": "⏹️", "retry": "🔄", "continue": "▶️"}
# Of what a tool asks: yes, here from now on, no; else the choices by number.
_TOOL_KEYS = (("toolyes", "✅"), ("toolhere", "🆗"), ("toolno", "❌"))
_NUMBERS = (*(f"{digit}\ufe0f\u20e3" for digit in "123456789"), "🔟")
_LONGEST_LABEL = 40
_MOST_KNOWN = 5000
_TRIES = 4
_MOST_REACTIONS = 50
_LONGEST_COMMAND = 64


def keys_for(actions: Sequence[Action]) -> dict[str, str]:
    """The command of each reaction."""
    found: dict[str, str] = {}
    for number, action in enumerate(actions[: len(_NUMBERS)]):
        tool = next((key for begins, key in _TOOL_KEYS if action.command.startswith(begins)), "")
        found[_KEYS.get(action.command) or tool or _NUMBERS[number]] = action.command
    return found


def legend_of(actions: Sequence[Action]) -> str:
    """What reactions mean that don't say so by themselves."""
    labels = {action.command: action.label[:_LONGEST_LABEL] for action in actions}
    return "\n".join(
        f"{key} {labels[command]}" for key, command in keys_for(actions).items() if command not in _KEYS
    )


def plain_key(key: str) -> str:
    """Some clients write the sign for "as a picture" and others do not."""
    return key.replace("\ufe0f", "")


@dataclass(slots=True)
class Under:
    """Whose answer a message is, and its reactions. `shown`: the event of each key; None: not known here."""

    room: str
    asker: str
    thread: str
    keys: Mapping[str, str]
    shown: dict[str, str] | None = field(default_factory=dict[str, str])
    busy: bool = False

    def command(self, key: str) -> str:
        """ "" for a reaction that is no button."""
        wanted = plain_key(key)
        return next((command for each, command in self.keys.items() if plain_key(each) == wanted), "")


class Buttons:
    def __init__(self, client: MatrixClient, paces: Paces, edit_interval_s: float, *, shown: bool) -> None:
        """shown: whether the bot adds reactions by itself; they work in any case."""
        self._client = client
        self._paces = paces
        self._interval = edit_interval_s
        self._adds = shown
        self._known = Recent[str, Under](_MOST_KNOWN)
        self._background = Background()

    def show(
        self, room: str, event: str, keys: Mapping[str, str], asker: str, thread: str, *, new: bool
    ) -> None:
        """Have these under that message, soon. new: nothing is there yet."""
        known = self._known.get(event)
        if known is None or known.room != room:
            known = Under(room, asker, thread, keys, {} if new else None)
        known.keys = keys
        self._known.put(event, known)
        if self._adds and not known.busy and (keys or not new):
            known.busy = True
            self._background.begin(self._bring(event, known))

    async def under(self, room: str, event: str) -> Under | None:
        """None for what is no message of ours."""
        known = self._known.get(event)
        if known is None:
            with suppress(OSError, TimeoutError, aiohttp.ClientError, ValueError):
                known = self._read(
                    room, await self._client.look(f"/v3/rooms/{in_path(room)}/event/{in_path(event)}")
                )
        return known if known is not None and known.room == room else None

    async def drain(self, grace_s: float) -> None:
        await self._background.drain(grace_s)

    async def _bring(self, event: str, under: Under) -> None:
        pace = self._paces.of(under.room, self._interval)
        tries = 0
        try:
            while tries < _TRIES:
                await pace.turn()
                try:
                    if not await self._step(event, under):
                        return
                    tries = 0
                except Flooded as flood:
                    tries += 1
                    pace.flooded(asyncio.get_running_loop().time(), flood.retry_after)
                except Unreachable:
                    tries += 1
        except NotWritten as error:
            _log.info("Matrix: reactions as buttons are left out under an answer: %s", error)
        finally:
            under.busy = False

    async def _step(self, event: str, under: Under) -> bool:
        """One request; False where nothing is left to do. Raises NotWritten."""
        if under.shown is None:
            under.shown = await self._shown(under.room, event)
            return True
        for key, reaction in under.shown.items():
            if key not in under.keys:
                await ask(self._client.room_redact(under.room, reaction))
                del under.shown[key]
                return True
        for key in under.keys:
            if key not in under.shown:
                relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
                try:
                    sent = await ask(
                        self._client.room_send(under.room, "m.reaction", {"m.relates_to": relation})
                    )
                except Duplicate:
                    under.shown = None
                    return True
                under.shown[key] = str(sent.event_id)
                return True
        return False

    async def _shown(self, room: str, event: str) -> dict[str, str]:
        """https://spec.matrix.org/v1.15/client-server-api/#get_matrixclientv1roomsroomidrelationseventidreltype"""
        path = f"/v1/rooms/{in_path(room)}/relations/{in_path(event)}/m.annotation?limit={_MOST_REACTIONS}"
        try:
            found = (await self._client.look(path)).get("chunk")
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise Unreachable(f"Matrix: {type(error).__name__}") from error
        shown: dict[str, str] = {}
        for reaction in objects_in(found, _MOST_REACTIONS):
            key = fields_of(fields_of(reaction, "content"), "m.relates_to").get("key")
            if reaction.get("sender") == self._client.user_id and isinstance(key, str):
                shown[key] = str(reaction.get("event_id"))
        return shown

    def _read(self, room: str, event: Fields) -> Under | None:
        """What was noted in the message itself, as it is now."""
        latest = fields_of(fields_of(fields_of(event, "unsigned"), "m.relations"), "m.replace")
        first, last = (self._content(room, each) for each in (event, latest))
        noted = fields_of(last, BUTTONS) or fields_of(first, BUTTONS)
        asker, thread, keys = (noted.get(name) for name in ("asker", "thread", "keys"))
        if not (isinstance(asker, str) and isinstance(thread, str) and isinstance(keys, dict)):
            return None
        read = {
            str(key): command
            for key, command in cast(dict[str, Any], keys).items()
            if isinstance(command, str) and len(command) <= _LONGEST_COMMAND
        }
        return Under(room, asker, thread, read, None)

    def _content(self, room: str, event: Fields) -> Fields:
        """None of what somebody else said."""
        if event.get("sender") != self._client.user_id:
            return {}
        if event.get("type") != "m.room.encrypted" or self._client.olm is None:
            return fields_of(event, "content")
        with suppress(Exception):  # of a key that is gone
            hidden = Event.parse_event(dict(event))
            if isinstance(hidden, MegolmEvent):
                hidden.room_id = room
                return fields_of(self._client.decrypt_event(hidden).source, "content")
        return {}
